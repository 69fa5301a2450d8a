"""The meaning of a catalogue name and its values on this host, as plain values and as text.

Rule: the meaning is always shown; values that could not be read have a reason.
"""

from .lookup import Explanation, ExplanationView, catalogue_miss, check_name, explain, explanation_view
from .text import catalogue_lines, caveat_lines, here_lines, host_lines, meaning_lines, title_of
from .values import ExplainContext, HostWindow

__all__ = [
    "ExplainContext",
    "Explanation",
    "ExplanationView",
    "HostWindow",
    "catalogue_lines",
    "catalogue_miss",
    "caveat_lines",
    "check_name",
    "explain",
    "explanation_view",
    "here_lines",
    "host_lines",
    "meaning_lines",
    "title_of",
]
