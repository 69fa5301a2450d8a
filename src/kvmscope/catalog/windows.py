"""How long rules wait. Loads nothing: a command that looks for too short a time must say so before it opens a host."""

from typing import Final

USUAL_WINDOWS: Final = 2
"""In how many consecutive windows the condition of a rule must hold, unless the rule states another number."""
