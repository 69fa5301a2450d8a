"""``kvmscope check``: what can be read here, by which source, and why not by the others."""

from __future__ import annotations

import getpass
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from ..errors import KvmscopeError, SourceError
from .options import json_option
from .session import open_host

if TYPE_CHECKING:
    from ..host.facts import Machine
    from ..linux.facts import Fact, KernelModule

_NO_SOURCE = 3

_SEES = {
    "pinned": "every VM of this host, by what was attached",
    "bpf": "every VM of this host",
    "statsfd": "VMs whose VMM keeps its stats fds open",
    "published": "what programs publish, and simulated hosts",
}
_SEES_ALL = ("pinned", "bpf")
_INDENT = 11


@click.command("check", short_help="What can be read here, by which source, and why not the rest.")
@json_option
@click.pass_context
def command(ctx: click.Context, *, as_json: bool) -> None:
    """Tell what can be read here, by which source, and why not by the others.

    Exits with 3 if nothing can be read: no source sees every VM, and the others see none.
    """
    from .. import collect
    from ..host.machine import read_machine

    findings = [_try(name) for name in collect.SOURCES]
    machine = read_machine()
    if as_json:
        from ..view.jsonout import FORMAT, dump

        click.echo(dump({"format": FORMAT, "host": _host_json(machine), "sources": [f.to_json() for f in findings]}))
    else:
        from .echo import echo_lines, wrapped

        echo_lines(wrapped([*host_lines(machine), "", *source_lines(findings)], indent=_INDENT))
    if not any(finding.is_useful for finding in findings):
        ctx.exit(_NO_SOURCE)


@dataclass(frozen=True)
class Finding:
    """What came of trying one source; ``reason`` is None if it works."""

    source: str
    reason: str | None
    remedy: str = ""
    vms: int = 0
    vcpus: int = 0
    gaps: tuple[str, ...] = ()

    @property
    def is_useful(self) -> bool:
        return self.reason is None and (self.source in _SEES_ALL or self.vms > 0)

    def to_json(self) -> dict[str, Any]:
        works = self.reason is None
        return {
            "name": self.source,
            "sees": _SEES.get(self.source),
            "works": works,
            "reason": self.reason,
            "remedy": self.remedy or None,
            "vms": self.vms if works else None,
            "vcpus": self.vcpus if works else None,
            "gaps": list(self.gaps),
        }


def host_lines(machine: Machine) -> list[str]:
    """The host, a line a fact; a fact that cannot be had says why."""
    from ..view.text import columns

    def text(fact: Fact[str]) -> str:
        return fact.value or f"not known: {fact.reason}"

    cpu = machine.cpu.value
    return columns(
        [
            ("host", text(machine.hostname)),
            ("kernel", f"Linux {text(machine.kernel_release)} {machine.architecture.value or ''}".rstrip()),
            ("CPU", (cpu.model or "not known") if cpu else f"not known: {machine.cpu.reason}"),
            ("KVM", _module_text(machine.kvm_vendor)),
            ("lockdown", text(machine.lockdown)),
            ("user", _user()),
        ]
    )


def source_lines(findings: list[Finding]) -> list[str]:
    """A line a source, and below it why not and what to try."""
    from ..view.text import NO_VM, columns

    heads = columns([(f.source, "yes" if f.reason is None else "no", _SEES.get(f.source, "")) for f in findings])
    lines = [f"{'source':<{_INDENT}}works"]
    for finding, head in zip(findings, heads, strict=True):
        lines.append(head)
        lines += [" " * _INDENT + detail for detail in _details(finding)]
    best = next((finding for finding in findings if finding.is_useful), None)
    if best is None:
        return [*lines, "", "nothing can be read here"]
    lines += ["", f"kvmscope reads this host by {best.source}"]
    return lines if best.vms else [*lines, NO_VM.format(source=best.source)]


def _details(finding: Finding) -> Iterator[str]:
    from ..view.text import counted

    if finding.reason is not None:
        yield finding.reason
        if finding.remedy:
            yield f"try: {finding.remedy}"
        return
    yield f"sees {counted(finding.vms, 'VM')} with {counted(finding.vcpus, 'vCPU')}"
    yield from finding.gaps


def _try(name: str) -> Finding:
    from ..view.text import gap_lines

    try:
        with open_host(name) as host:
            scene = host.look()
    except SourceError as error:
        return Finding(name, error.reason, error.remedy)
    except KvmscopeError as error:
        return Finding(name, str(error))
    sample = scene.sample
    return Finding(name, None, "", len(sample.vms), len(sample.vcpus), tuple(gap_lines(sample.gaps)))


def _module_text(module: Fact[KernelModule]) -> str:
    if module.value is None:
        return f"not known: {module.reason}"
    return f"{module.value.name} ({'built in' if module.value.is_built_in else 'module'})"


def _host_json(machine: Machine) -> dict[str, Any]:
    vendor, cpu = machine.kvm_vendor.value, machine.cpu.value
    return {
        "name": machine.hostname.value,
        "kernel": machine.kernel_release.value,
        "architecture": machine.architecture.value,
        "cpu": cpu.model if cpu else None,
        "kvm_module": vendor.name if vendor else None,
        "kvm_built_in": vendor.is_built_in if vendor else None,
        "lockdown": machine.lockdown.value,
        "user": _user(),
        "is_root": os.geteuid() == 0,
    }


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return f"uid {os.geteuid()}"
