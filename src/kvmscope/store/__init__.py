"""Recordings: scenes written to disk as they were read, and read back unchanged.

``layout``: paths and names of files. ``documents``: rarely changing data, stored once. ``journal``: the file that is
being written. ``columns`` and ``segment``: the Parquet files that a journal becomes. ``epochs``: periods in which a
subject's counts only went up. ``writer`` and ``recording``: writing and reading.
docs/reference/recordings.md describes the format for readers without kvmscope.
"""

from __future__ import annotations
