"""The number of windows that rules need. Imports nothing: a command rejects too short a time before it opens a host."""

from typing import Final

USUAL_WINDOWS: Final = 2
"""The number of consecutive windows in which the condition of a rule must hold, unless the rule sets another."""
