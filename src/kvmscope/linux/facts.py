"""Facts about the kernel as values: facts with the reason where there is none, modules, the CPU. No I/O."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

T = TypeVar("T")

X86: Final = frozenset({"x86_64", "i686", "i586", "i486", "i386"})
"""Architectures whose KVM has vendor modules, as ``uname -m`` names them."""


@dataclass(frozen=True, slots=True)
class Fact(Generic[T]):
    """A value, or None and the reason why there is none."""

    value: T | None
    reason: str | None = None

    @classmethod
    def unknown(cls, reason: str) -> Fact[T]:
        return cls(None, reason)


@dataclass(frozen=True, slots=True)
class KernelModule:
    """A kernel module as /sys/module shows it. ``parameters``: by name, as the kernel writes them (``Y``, ``-1``)."""

    name: str
    is_built_in: bool
    parameters: Mapping[str, Fact[str]]


@dataclass(frozen=True, slots=True)
class CpuInfo:
    """The first CPU of /proc/cpuinfo. ``flags``: x86 ``flags`` with ``vmx flags``, or arm64 ``Features``; ``family``:
    of x86 alone.
    """

    vendor: str | None
    model: str | None
    flags: frozenset[str]
    family: int | None = None
