"""Recordings: scenes written down as they were read, and read back as the same scenes.

``layout``: where things lie, and what they are called. ``documents``: what changes seldom, kept once. ``journal``: what
is being written. ``columns`` and ``segment``: the Parquet files that a journal becomes. ``epochs``: stretches in which
a subject's counts only went up. ``writer`` and ``recording``: the two ways in.
docs/reference/recordings.md describes the format for those who read it without kvmscope.
"""

from __future__ import annotations
