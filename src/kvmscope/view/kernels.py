"""A kernel whose schema is compared or held to a contract."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, TypedDict

from ..catalog.kernels import known_kernels
from ..host.text import printable
from ..schema import KernelTables

_MAX_TEXT = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelTitle:
    """The identity of a kernel."""

    name: Annotated[str, "`here`, or the name by which it is known."]
    release: Annotated[str | None, "Its release."]
    architecture: Annotated[str | None, "Its architecture, as the kernel names it."]
    captured: Annotated[bool, "Whether its tables were read from a running kernel; else from its source."]
    how: Annotated[str, "How they were read."]


class KernelHead(TypedDict):
    """The fields of a ``KernelTitle``."""

    name: str
    release: str | None
    architecture: str | None
    captured: bool
    how: str


def kernel_head(kernel: KernelTables) -> KernelHead:
    """The identity of a kernel as fields: ``KernelTitle(**kernel_head(kernel))``."""
    return {
        "name": kernel.name,
        "release": kernel.release,
        "architecture": kernel.architecture,
        "captured": kernel.captured,
        "how": kernel.how,
    }


def kernel_text(kernel: KernelTitle) -> str:
    """``x86-6.1 (6.1.0-56-cloud-amd64, captured)``, without characters that a terminal acts on."""
    parts = [kernel.release] if kernel.release and kernel.release not in f"{kernel.name} {kernel.how}" else []
    parts.append("captured" if kernel.captured else f"derived {kernel.how}")
    return printable(f"{kernel.name} ({', '.join(parts)})", max_length=_MAX_TEXT)


def kernels_text(kernels: Sequence[KernelTitle]) -> str:
    """``here (6.18.44), x86 5.14, x86 5.16 to 6.1 (5 kernels)``: consecutive known kernels joined."""
    known = [_known_key(KernelTitle(**kernel_head(kernel))) for kernel in known_kernels()]
    runs: list[list[KernelTitle]] = []
    for kernel in kernels:
        last = runs[-1][-1] if runs else None
        if last is not None and _follows(kernel, last, known):
            runs[-1].append(kernel)
        else:
            runs.append([kernel])
    return ", ".join(_run_text(run) if _known_key(run[0]) in known else kernel_text(run[0]) for run in runs)


def _follows(kernel: KernelTitle, last: KernelTitle, known: Sequence[object]) -> bool:
    key, before = _known_key(kernel), _known_key(last)
    if key not in known or before not in known:
        return False
    return known.index(key) == known.index(before) + 1 and _stem(last) == _stem(kernel)


def _known_key(kernel: KernelTitle) -> object:
    return kernel.name, kernel.release, kernel.architecture, kernel.captured, kernel.how


def _run_text(run: Sequence[KernelTitle]) -> str:
    versions = [kernel.name.rpartition("-")[2] for kernel in run]
    if len(run) == 1:
        return f"{_stem(run[0])} {versions[0]}"
    return f"{_stem(run[0])} {versions[0]} to {versions[-1]} ({len(run)} kernels)"


def _stem(kernel: KernelTitle) -> str:
    return kernel.name.rpartition("-")[0]
