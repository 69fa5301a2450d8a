"""What a name of the catalogue means, and how it is on this host, as plain values and as text.

Rule: what could not be read of the host has its reason, and the meaning is told all the same.
"""

from .lookup import Explanation, ExplanationView, check_name, explain, explanation_view
from .text import host_lines, meaning_lines, title_of
from .values import ExplainContext, HostWindow

__all__ = [
    "ExplainContext",
    "Explanation",
    "ExplanationView",
    "HostWindow",
    "check_name",
    "explain",
    "explanation_view",
    "host_lines",
    "meaning_lines",
    "title_of",
]
