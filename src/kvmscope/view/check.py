"""Which sources can read this host, and why the others cannot.

Rule: a source works if it can read the statistics of the VMs that it sees, not merely if it could be opened.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np

from ..errors import KvmscopeError, SourceError
from ..host.facts import Machine
from ..host.text import printable
from ..sample import Gap, Sample
from ..schema import Scope
from .text import NO_VM, columns, counted
from .values import Answer

_SEES = {
    "pinned": "every VM of this host, through the attached iterator",
    "bpf": "every VM of this host",
    "statsfd": "VMs whose VMM keeps its stats fds open",
    "published": "what programs publish, and simulated hosts",
}
_SEES_ALL = ("pinned", "bpf")
_GAPS_SHOWN = 3
_MAX_REASON = 200

DETAIL_INDENT = 11
"""Columns before the lines below a source."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckedHost:
    """The facts of the host that decide which sources work; null where a fact is unknown."""

    name: Annotated[str | None, "Name of the host."]
    kernel: Annotated[str | None, "Release of the kernel."]
    architecture: Annotated[str | None, "Architecture of the host."]
    cpu: Annotated[str | None, "Model of the CPU."]
    kvm_module: Annotated[str | None, "The KVM module in use."]
    kvm_built_in: Annotated[bool | None, "Whether it is built into the kernel."]
    lockdown: Annotated[str | None, "Level of the kernel's lockdown."]
    user: Annotated[str, "Who runs this command."]
    is_root: Annotated[bool, "Whether that is root."]
    unknown: Annotated[Mapping[str, str], "For each fact that is null, why."]


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckedSource:
    """The result of trying one source."""

    name: Annotated[str, "Name of the source."]
    sees: Annotated[str | None, "What it can see."]
    works: Annotated[bool, "Whether it opened, and can read some VM if it sees any."]
    reason: Annotated[str | None, "Why it does not work."]
    remedy: Annotated[str | None, "What would help."]
    vms: Annotated[int | None, "Number of VMs that it sees; null if it did not open."]
    vcpus: Annotated[int | None, "Number of vCPUs that it sees; null if it did not open."]
    readable_vms: Annotated[int | None, "Number of VMs whose statistics it reads; null if it did not open."]
    gaps: Annotated[tuple[str, ...], "Each reason for which something could not be read, the most frequent first."]

    @property
    def is_useful(self) -> bool:
        """Whether the source can read a host."""
        return self.works and (self.name in _SEES_ALL or bool(self.readable_vms))


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckView(Answer):
    """The host, and the result of trying each source."""

    host: CheckedHost
    sources: tuple[CheckedSource, ...]

    @property
    def best(self) -> CheckedSource | None:
        """The source that kvmscope reads the host by."""
        return next((source for source in self.sources if source.is_useful), None)


def checked_host(machine: Machine, *, user: str, is_root: bool) -> CheckedHost:
    """The facts of this machine. ``user``: name of the user who runs this process."""
    module, cpu = machine.kvm_vendor.value, machine.cpu.value
    facts = {
        "name": machine.hostname.reason,
        "kernel": machine.kernel_release.reason,
        "architecture": machine.architecture.reason,
        "cpu": machine.cpu.reason if cpu is None else None if cpu.model else "/proc/cpuinfo names no model",
        "kvm_module": machine.kvm_vendor.reason,
        "lockdown": machine.lockdown.reason,
    }
    return CheckedHost(
        name=machine.hostname.value,
        kernel=machine.kernel_release.value,
        architecture=machine.architecture.value,
        cpu=cpu.model if cpu else None,
        kvm_module=module.name if module else None,
        kvm_built_in=module.is_built_in if module else None,
        lockdown=machine.lockdown.value,
        user=user,
        is_root=is_root,
        unknown={fact: reason for fact, reason in facts.items() if reason},
    )


def opened_source(name: str, sample: Sample) -> CheckedSource:
    """The result for a source that returned this sample."""
    vms, readable = len(sample.vms), _readable_vms(sample)
    works = readable > 0 or not vms
    gaps = tuple(_gap_texts(sample.gaps))
    return CheckedSource(
        name=name,
        sees=_SEES.get(name),
        works=works,
        reason=None if works else f"sees {counted(vms, 'VM')} and can read the statistics of none",
        remedy=None,
        vms=vms,
        vcpus=len(sample.vcpus),
        readable_vms=readable,
        gaps=gaps,
    )


def failed_source(name: str, error: KvmscopeError) -> CheckedSource:
    """The result for a source that could not be opened or read."""
    reason, remedy = (error.reason, error.remedy or None) if isinstance(error, SourceError) else (str(error), None)
    return CheckedSource(
        name=name,
        sees=_SEES.get(name),
        works=False,
        reason=reason,
        remedy=remedy,
        vms=None,
        vcpus=None,
        readable_vms=None,
        gaps=(),
    )


def _readable_vms(sample: Sample) -> int:
    """Number of VMs for which, or for a vCPU of which, some statistics were read."""
    rows = [block.rows if block.schema.scope is Scope.VM else sample.vcpus.vm[block.rows] for block in sample.blocks]
    return len(np.unique(np.concatenate(rows))) if rows else 0


def _gap_texts(gaps: Sequence[Gap]) -> Iterator[str]:
    for reason, times in Counter(gap.reason for gap in gaps).most_common():
        yield f"{reason} ({times} times)" if times > 1 else reason


# --- text -------------------------------------------------------------------------------------------------------------


def check_lines(view: CheckView) -> list[str]:
    """The host, one line per fact; then one line per source, and below a failed source the reason and what to try."""
    return [*_host_lines(view.host), "", *_source_lines(view)]


def _host_lines(host: CheckedHost) -> list[str]:
    def text(fact: str, value: str | None) -> str:
        return printable(
            value if value is not None else f"unknown: {host.unknown.get(fact, '')}", max_length=_MAX_REASON
        )

    kind = "" if host.kvm_module is None else f" ({'built in' if host.kvm_built_in else 'module'})"
    return columns(
        [
            ("host", text("name", host.name)),
            ("kernel", f"Linux {text('kernel', host.kernel)} {host.architecture or ''}".rstrip()),
            ("CPU", text("cpu", host.cpu)),
            ("KVM", text("kvm_module", host.kvm_module) + kind),
            ("lockdown", text("lockdown", host.lockdown)),
            ("user", host.user),
        ]
    )


def _source_lines(view: CheckView) -> list[str]:
    heads = columns([(each.name, _works_text(each), each.sees or "") for each in view.sources])
    lines = [f"{'source':<{DETAIL_INDENT}}works"]
    for source, head in zip(view.sources, heads, strict=True):
        lines.append(head)
        lines += [" " * DETAIL_INDENT + detail for detail in _details(source)]
    best = view.best
    if best is None:
        return [*lines, "", "nothing can be read here"]
    lines += ["", f"kvmscope reads this host by {best.name}"]
    return lines if best.vms else [*lines, NO_VM.format(source=best.name)]


def _works_text(source: CheckedSource) -> str:
    if not source.works:
        return "no"
    return "yes" if source.readable_vms == source.vms else "in part"


def _details(source: CheckedSource) -> Iterator[str]:
    if source.reason is not None:
        yield source.reason
        if source.remedy:
            yield f"try: {source.remedy}"
    elif source.readable_vms == source.vms:
        yield f"sees {counted(source.vms or 0, 'VM')} with {counted(source.vcpus or 0, 'vCPU')}"
    else:
        yield f"reads {source.readable_vms} of {counted(source.vms or 0, 'VM')}"
    yield from (f"missing data: {printable(text, max_length=_MAX_REASON)}" for text in source.gaps[:_GAPS_SHOWN])
    more = len(source.gaps) - _GAPS_SHOWN
    if more > 0:
        yield f"missing data: {more} more; --json has them all"
