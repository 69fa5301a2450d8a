"""Default limits of the export. Loads nothing: the help of commands states it."""

from typing import Final

SERIES_OF_VMS: Final = 40_000
"""The most series of VMs that are exported by default: about a megabyte of a scrape."""
