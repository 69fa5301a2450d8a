"""The interface of every source of live statistics.

A source reads; it does not interpret, name VMs, or keep history. Sources are interchangeable: each yields the same
``Sample``, and what one cannot see is a ``Gap`` in it.
"""

from __future__ import annotations

from typing import Protocol

from ..sample import Sample
from ..schema import Schema


class Source(Protocol):
    """One way to read this host. Must be closed; ``close`` leaves nothing open, attached or mapped, except the memory
    of samples that are still referenced."""

    @property
    def name(self) -> str:
        """A short and stable name: ``bpf``, ``pinned``, ``statsfd``, ``published``."""

    @property
    def schemas(self) -> tuple[Schema, ...]:
        """The schemas that the blocks of its samples can have."""

    def read(self) -> Sample:
        """One sample of everything that this source sees. Raises SourceError if the source as a whole is gone."""

    def close(self) -> None:
        """Release all resources. Idempotent."""
