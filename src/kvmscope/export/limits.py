"""Default limits of the export. This module imports nothing, as the help of commands uses it."""

from typing import Final

SERIES_OF_VMS: Final = 40_000
"""Maximum number of series of VMs by default: about a megabyte per scrape."""
