"""``kvmscope schema review``: what reviewers would say of stats that somebody proposes. Rules: ``publish.review``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..errors import UsageError
from .options import json_option

if TYPE_CHECKING:
    from ..publish.proposal import Proposal
    from ..publish.review import Cost, Objection

_VCPUS, _VMS = 1000, 125
_FOUND = 1


@click.command("review")
@click.argument("file", metavar="FILE")
@json_option
def review(*, file: str, as_json: bool) -> None:
    """Judge the stats that FILE (TOML) proposes as the kvm list would: what speaks against each, what to do instead,
    and what they cost on a host with 1,000 vCPUs. Exits with 1 if there is an objection. docs/review.md has the rules.
    """
    from ..publish.proposal import parse_proposal
    from ..publish.review import cost
    from ..publish.review import review as judge
    from .echo import echo_lines

    proposal = parse_proposal(_read(file), file)
    objections = judge(proposal)
    if as_json:
        from ..view.jsonout import dump

        click.echo(dump(to_json(proposal, objections, cost(proposal))))
    else:
        echo_lines(lines(proposal, objections, cost(proposal)))
    if objections:
        click.get_current_context().exit(_FOUND)


def _read(file: str) -> str:
    try:
        return Path(file).read_text(encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{file} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{file} is not text in UTF-8 (byte {error.start})") from error


def lines(proposal: Proposal, objections: Sequence[Objection], cost: Cost) -> Iterator[str]:
    """What speaks against it, stat by stat, and what it costs."""
    from ..host.text import printable
    from ..view.text import counted

    yield f"{printable(proposal.title)}: {counted(len(proposal.stats), 'stat')}"
    before: tuple[object, object] | None = None
    for objection in objections:
        subject = objection.stat, objection.scope
        if subject != before:
            yield ""
            yield _subject(objection)
            before = subject
        yield f"  {objection.rule}: {objection.says}"
        yield f"    instead: {objection.instead}"
    yield ""
    yield _cost_line(cost)
    yield counted(len(objections), "objection") if objections else "nothing speaks against it"


def _subject(objection: Objection) -> str:
    if objection.stat is None:
        return "the set as a whole"
    return f"{objection.stat} ({objection.scope.value if objection.scope else ''})"


def _cost_line(cost: Cost) -> str:
    from ..units import format_bytes

    total = format_bytes(cost.on_host(vms=_VMS, vcpus=_VCPUS))
    grouped = ""
    if cost.vm_grouped or cost.vcpu_grouped:
        grouped = f"; {cost.vm_grouped} and {cost.vcpu_grouped} bytes more where its groups are on"
    return (
        f"cost: {cost.vm} bytes for each VM and {cost.vcpu} for each vCPU, always: "
        f"{total} on a host with {_VCPUS:,} vCPUs in {_VMS} VMs{grouped}"
    )


def to_json(proposal: Proposal, objections: Sequence[Objection], cost: Cost) -> dict[str, Any]:
    """The same for programs."""
    from ..view.jsonout import FORMAT

    return {
        "format": FORMAT,
        "title": proposal.title,
        "provider": proposal.provider,
        "stats": len(proposal.stats),
        "objections": [
            {
                "rule": objection.rule,
                "stat": objection.stat,
                "scope": objection.scope.value if objection.scope else None,
                "says": objection.says,
                "instead": objection.instead,
            }
            for objection in objections
        ],
        "cost": {
            "bytes_per_vm": cost.vm,
            "bytes_per_vcpu": cost.vcpu,
            "grouped_bytes_per_vm": cost.vm_grouped,
            "grouped_bytes_per_vcpu": cost.vcpu_grouped,
            "host": {"vms": _VMS, "vcpus": _VCPUS, "bytes": cost.on_host(vms=_VMS, vcpus=_VCPUS)},
        },
    }
