"""The interface of every source of live statistics.

A source reads; it does not interpret, name VMs, or keep history. Sources are interchangeable: each yields the same
``Sample``, and what one cannot see is a ``Gap`` in it.
"""

from __future__ import annotations

from typing import Protocol

from ..sample import Sample
from ..schema import Schema


class Source(Protocol):
    """One way to read this host. Must be closed; after ``close`` nothing of it is left open, attached or mapped, but
    for the memory of samples that somebody still holds."""

    @property
    def name(self) -> str:
        """Short and stable: ``bpf``, ``pinned``, ``statsfd``, ``published``."""

    @property
    def schemas(self) -> tuple[Schema, ...]:
        """The schemas that its samples can have blocks of."""

    def read(self) -> Sample:
        """One sample of everything that this source sees. Raises SourceError if the source as a whole is gone."""

    def close(self) -> None:
        """Let go of everything. Idempotent."""
