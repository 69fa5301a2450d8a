"""How many intervals rules need. Loads nothing: a command must refuse too short a time before it opens a host."""

from typing import Final

USUAL_WINDOWS: Final = 2
"""In how many consecutive windows the condition of a rule must hold, unless the rule states another number."""
