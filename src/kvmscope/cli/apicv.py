"""``kvmscope apicv``: the verdict on interrupt acceleration as a tree with its evidence.

What is said is in ``analysis.apicv``; here it is put into lines. docs/apicv.md explains how to read it.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import click

from .interrupts import until_ended
from .options import json_option, parse_duration, shortened, source_option
from .session import open_host, read_windows

if TYPE_CHECKING:
    from ..analysis.apicv import Prediction, Reason, VcpuVerdict, Verdicts, VmVerdict, WhatIf
    from ..analysis.window import Window
    from ..collect import Host
    from ..scene import Scene
    from ..view.subjects import Selection


_GROUP = "apicv"


def _parse_group(_ctx: click.Context, _param: click.Parameter, value: str | None) -> str | None:
    """``--count`` takes a group as for other commands; the one that counts for this command is the default."""
    if value not in (None, _GROUP):
        raise click.BadParameter(
            f"group {shortened(value or '')} has nothing to tell here, {_GROUP} has; a VM comes first: "
            f"kvmscope apicv VM --count"
        )
    return value


@click.command("apicv", short_help="Are interrupts accelerated, and if not, why?")
@click.argument("vm", required=False, metavar="[VM[/VCPU]]")
@click.option("--what-if", "with_what_if", is_flag=True, help="Also what would be if the host had it switched on.")
@click.option("--watch", "-w", is_flag=True, help="Again and again, until Ctrl-C.")
@click.option("--interval", callback=parse_duration, metavar="TIME", help="Look at a window of this length, not once.")
@click.option(
    "--count",
    is_flag=False,
    flag_value=_GROUP,
    metavar="[GROUP]",
    callback=_parse_group,
    help=f"Count by this group meanwhile: how much of the window each reason held.  [default group: {_GROUP}]",
)
@source_option
@json_option
def command(
    *,
    vm: str | None,
    with_what_if: bool,
    watch: bool,
    interval: float | None,
    count: str | None,
    source: str,
    as_json: bool,
) -> None:
    """Tell whether the interrupts of VMs are hardware-accelerated (Intel APICv, AMD AVIC), and if not, by what, what
    causes that and what removes it, with the evidence for each.

    \b
    kvmscope apicv
    kvmscope apicv web-1 --what-if
    kvmscope apicv --count --interval 5s
    """
    with contextlib.ExitStack() as stack:
        host = stack.enter_context(_open(source, count=count is not None))
        views = _views(
            host, interval or (1.0 if watch or count else None), with_what_if, vm=vm, count=None if watch else 1
        )
        if not watch:
            _echo(next(views), vm, as_json=as_json)
            return
        with until_ended():
            _watch(views, vm, as_json=as_json)


@dataclass(frozen=True)
class View:
    """A scene and what is to be said of it."""

    scene: Scene
    verdicts: Verdicts
    foreseen: tuple[WhatIf, ...] | None


@dataclass
class Node:
    """A line and the lines below it."""

    text: str
    style: str = ""
    below: list[Node] = field(default_factory=list)


def _open(source: str, *, count: bool) -> Host:
    """The host by a source that reads local APICs too, if it can be had: their registers tell some conditions."""
    if click.get_current_context().obj is not None:
        return open_host(source)
    from .. import collect

    if count:
        return collect.open_host(source, groups=(_GROUP,))
    if source == "bpf":
        return collect.open_host(source, groups=("apic",))
    return _open_best() if source == "auto" else open_host(source)


def _open_best() -> Host:
    """What is pinned has the registers; loading the iterator for oneself has them if asked; else whatever works."""
    from .. import collect
    from ..errors import SourceError

    try:
        return collect.open_host("pinned")
    except SourceError as error:
        pinned = error
    try:
        host = collect.open_host("bpf", groups=("apic",))
    except SourceError:
        return open_host("auto")
    host.why_not = {"pinned": pinned}
    return host


def _views(
    host: Host, interval_s: float | None, with_what_if: bool, *, vm: str | None, count: int | None
) -> Iterator[View]:
    """One view, or one for each window of this length: ``count`` of them, or without end."""
    if interval_s is None:
        yield make_view(host.look(), with_what_if=with_what_if)
        return
    for scene, window in read_windows(host, interval_s, vm=vm, count=count):
        yield make_view(scene, window, with_what_if=with_what_if)


def make_view(scene: Scene, window: Window | None = None, *, with_what_if: bool = False) -> View:
    """What is to be said of a scene."""
    from ..view.judging import foresee, judge_scene

    foreseen = foresee(scene, window) if with_what_if else None
    return View(scene, judge_scene(scene, window), foreseen)


def _echo(view: View, vm: str | None, *, as_json: bool) -> None:
    from ..view.jsonout import dump

    chosen = _chosen(view, vm)
    if as_json:
        click.echo(dump(to_json(view, chosen)))
        return
    if not sys.stdout.isatty():
        click.echo("\n".join(plain_lines(view, chosen)))
        return
    from rich.console import Console

    Console().print(*_trees(view, chosen), sep="\n")


def _watch(views: Iterator[View], vm: str | None, *, as_json: bool) -> None:
    from ..view.jsonout import dump

    if as_json or not sys.stdout.isatty():
        for view in views:
            chosen = _chosen(view, vm)
            text = (
                dump(to_json(view, chosen), one_line=True) if as_json else "\n".join(plain_lines(view, chosen)) + "\n"
            )
            click.echo(text)
            sys.stdout.flush()
        return
    from rich.console import Console, Group
    from rich.live import Live

    with Live(console=Console(), auto_refresh=False, vertical_overflow="crop") as live:
        for view in views:
            live.update(Group(*_trees(view, _chosen(view, vm))), refresh=True)


def _chosen(view: View, vm: str | None) -> Selection | None:
    if vm is None:
        return None
    from ..view.subjects import find_subject

    return find_subject(view.scene, vm)


# --- JSON -------------------------------------------------------------------------------------------------------------


def to_json(view: View, chosen: Selection | None = None) -> dict[str, Any]:
    """The verdicts for programs; unknown is null."""
    from ..view import jsonout

    vms = [vm for vm in view.verdicts.vms if chosen is None or chosen.vm == vm.row]
    return {
        **jsonout.head(view.scene),
        "interval_s": view.verdicts.interval_s,
        "host": _host_json(view),
        "vms": [_vm_json(view, vm, chosen) for vm in vms],
        "gaps": jsonout.gaps(view.scene.sample.gaps),
    }


def _host_json(view: View) -> dict[str, Any]:
    host = view.verdicts.host

    def told(name: str) -> dict[str, Any]:
        fact = getattr(host, name)
        return {"value": fact.value, "evidence": fact.evidence}

    return {
        "module": host.module,
        "hardware": host.hardware.value if host.hardware else None,
        **{name: told(name) for name in ("supported", "switched_on", "x2avic", "ipi", "device_posting", "nested")},
    }


def _vm_json(view: View, vm: VmVerdict, chosen: Selection | None) -> dict[str, Any]:
    from ..view import jsonout

    vcpus = [vcpu for vcpu in vm.vcpus if chosen is None or chosen.vcpu in (None, vcpu.row)]
    foreseen = {} if view.foreseen is None else {"what_if": _what_if_json(view.foreseen[vm.row])}
    return {
        **jsonout.vm(view.scene, vm.row),
        "apicv": {
            "state": vm.state.value,
            "branch": vm.branch.value,
            "verified": vm.is_verified,
            "reasons": [reason_json(reason) for reason in vm.reasons],
            "limits": [{"name": limit.name, "text": limit.text} for limit in vm.limits],
            "notes": list(vm.notes),
            "contradictions": list(vm.contradictions),
            "would_tell": list(vm.would_tell),
            "evidence": [{"from": evidence.source.value, "text": evidence.text} for evidence in vm.evidence],
        },
        **foreseen,
        "vcpus": [_vcpu_json(view, vcpu) for vcpu in vcpus],
    }


def _vcpu_json(view: View, vcpu: VcpuVerdict) -> dict[str, Any]:
    from ..view import jsonout

    return {
        **jsonout.vcpu(view.scene.sample, vcpu.row),
        "apicv_active": vcpu.active,
        "state": vcpu.state.value,
        "branch": vcpu.branch.value,
        "provisional": vcpu.is_provisional,
        "active_share": vcpu.active_share,
        "reasons": [reason_json(reason) for reason in vcpu.reasons],
        "limits": [{"name": limit.name, "text": limit.text} for limit in vcpu.limits],
        "notes": list(vcpu.notes),
    }


def reason_json(reason: Reason) -> dict[str, Any]:
    """One reason, whole."""
    return {
        "name": reason.name,
        "class": reason.cls.value,
        "meaning": reason.meaning,
        "cause": reason.cause,
        "remedy": reason.remedy,
        "cleared_by": reason.cleared_by,
        "certainty": reason.certainty.value,
        "witness": reason.witness.value,
        "share": reason.share,
        "inhibited_s": reason.inhibited_s,
        "since_s": reason.since_s,
        "since_is_at_least": reason.is_older,
        "history": reason.history or None,
        "evidence": [{"from": evidence.source.value, "text": evidence.text} for evidence in reason.evidence],
    }


def _what_if_json(found: WhatIf) -> dict[str, Any]:
    return {
        "outcome": found.outcome.value,
        "is_off_now": found.is_off,
        "host": found.host.value,
        "first": list(found.first),
        "notes": list(found.notes),
        "predictions": [
            {
                "reason": prediction.reason,
                "class": prediction.cls.value,
                "holds": prediction.holds,
                "certainty": prediction.certainty.value,
                "cause": prediction.cause,
                "remedy": prediction.remedy,
            }
            for prediction in found.predictions
        ],
    }


# --- screen -----------------------------------------------------------------------------------------------------------


def plain_lines(view: View, chosen: Selection | None = None) -> list[str]:
    """The tree by indentation alone."""
    return [line for node in nodes(view, chosen) for line in _indented(node, 0)]


def nodes(view: View, chosen: Selection | None = None) -> list[Node]:
    """What a person reads, top to bottom."""
    from ..view.text import SIMULATED, no_vm_line, note_lines

    found = [Node(SIMULATED, "bold reverse yellow")] if view.scene.sample.simulated else []
    found.append(_host_node(view))
    vms = [vm for vm in view.verdicts.vms if chosen is None or chosen.vm == vm.row]
    if not vms:
        found.append(Node(no_vm_line(view.scene.sample.source, view.scene.sample.gaps)))
    found += [_vm_node(view, vm, chosen) for vm in vms]
    return found + [
        Node(line, "dim") for line in note_lines(view.scene.sample.source, view.scene.why_not, view.scene.sample.gaps)
    ]


def _host_node(view: View) -> Node:
    host = view.verdicts.host
    if view.scene.sample.simulated:
        return Node("host: each simulated VM pretends to run on one of its own", "bold")
    name = view.scene.machine.hostname.value or "this host"
    answers = {True: "yes", False: "no", None: "not known"}
    below = [
        Node(f"{title}: {answers[fact.value]} ({_safe(fact.evidence)})")
        for title, fact in (("CPU and KVM have it", host.supported), ("switched on", host.switched_on))
    ]
    title = f"host {_safe(name)}: {host.module or 'KVM module not known'}"
    return Node(title, "bold", below[:1] if host.supported.value is False else below)


def _vm_node(view: View, vm: VmVerdict, chosen: Selection | None) -> Node:
    node = Node(f"{view.scene.title(vm.row)}: {headline(vm)}", _style(vm))
    node.below += [_reason_node(reason, is_verified=vm.is_verified) for reason in vm.reasons]
    node.below += [Node(f"not accelerated: {limit.text} ({_safe(limit.evidence.text)})") for limit in vm.limits]
    node.below += _vcpu_nodes(vm, chosen)
    node.below += [Node(f"contradiction: {_safe(text)}", "yellow") for text in vm.contradictions]
    node.below += [Node(f"note: {_safe(text)}") for text in vm.notes]
    if not vm.reasons and vm.evidence:
        node.below.append(Node("evidence: " + "; ".join(_safe(evidence.text) for evidence in vm.evidence), "dim"))
    node.below += [Node(f"what would tell: {text}") for text in vm.would_tell]
    if view.foreseen is not None:
        node.below.append(_what_if_node(view.foreseen[vm.row]))
    return node


def headline(vm: VmVerdict) -> str:
    """The verdict on a VM in a line."""
    from ..analysis.apicv import Branch

    names = ", ".join(reason.name for reason in vm.reasons)
    if vm.branch is Branch.UNKNOWN:
        expected = f"; from the configuration, not verified: {names}" if names else ""
        return f"unknown{expected}"
    words = {
        Branch.NOT_SUPPORTED: "not supported by this CPU or KVM",
        Branch.OFF_BY_PARAMETER: "off by module parameter",
        Branch.OFF: "off on this host, by parameter or for want of hardware",
        Branch.NO_APIC: "no local APIC in the kernel",
        Branch.INHIBITED: f"inhibited by {names}" if names else "not active yet",
        Branch.ACTIVE: "active",
        Branch.PARTLY: "active, but in part",
    }
    return words[vm.branch]


def _style(vm: VmVerdict) -> str:
    from ..analysis.apicv import State

    return {State.ACTIVE: "bold green", State.INHIBITED: "bold red"}.get(vm.state, "bold")


def _reason_node(reason: Reason, *, is_verified: bool) -> Node:
    title = f"{reason.name} ({reason.cls.value}){_times(reason)}: {reason.meaning}"
    if not is_verified:
        title = f"expected, {reason.certainty.value}: {title}"
    below = [Node(f"cause: {_safe(reason.cause)}"), Node(f"remedy: {reason.remedy}")]
    if is_verified and reason.name != "disabled":
        below.append(Node(f"cleared by: {reason.cleared_by}"))
    evidence = "; ".join(dict.fromkeys(_safe(evidence.text) for evidence in reason.evidence))
    witness = f" (second witness {reason.witness.value})" if is_verified else ""
    below.append(Node(f"evidence: {evidence}{witness}", "dim"))
    return Node(title, "", below)


def _times(reason: Reason) -> str:
    from ..units import format_share

    parts = [reason.history] if reason.history and reason.share is None else []
    if reason.since_s is not None:
        parts.append(f"for {'at least ' if reason.is_older else ''}{_duration(reason.since_s)}")
    if reason.share is not None:
        parts.append(f"{format_share(reason.share)} of the window")
    return f", {', '.join(parts)}" if parts else ""


_LONG_S = ((86400.0, "days"), (3600.0, "hours"), (60.0, "minutes"))


def _duration(seconds: float) -> str:
    """``512 ms``, ``5 minutes``, ``24 days``: two of the largest unit or more."""
    from ..units import format_seconds

    for length_s, unit in _LONG_S:
        if seconds >= 2 * length_s:
            return f"{seconds / length_s:.0f} {unit}"
    return format_seconds(seconds)


def _vcpu_nodes(vm: VmVerdict, chosen: Selection | None) -> list[Node]:
    """The vCPUs, those of which the same is to be said in one line."""
    groups: dict[str, list[int]] = {}
    for vcpu in vm.vcpus:
        if chosen is None or chosen.vcpu in (None, vcpu.row):
            groups.setdefault(_vcpu_text(vcpu), []).append(vcpu.id)
    return [Node(f"{_ids(ids)}: {text}") for text, ids in groups.items()]


def _vcpu_text(vcpu: VcpuVerdict) -> str:
    from ..units import format_share

    parts = [vcpu.state.value]
    if vcpu.reasons:
        parts.append("by " + ", ".join(reason.name for reason in vcpu.reasons))
    if vcpu.is_provisional:
        parts.append("provisional")
    if vcpu.active_share is not None:
        parts.append(f"active for {format_share(vcpu.active_share)} of the window")
    return ", ".join((*parts, *vcpu.notes))


def _ids(ids: Sequence[int]) -> str:
    """``vCPU 0``, ``vCPUs 0-3, 8``."""
    runs: list[list[int]] = []
    for number in sorted(ids):
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    text = ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in runs)
    return f"vCPU{'s' if len(ids) > 1 else ''} {text}"


def _what_if_node(found: WhatIf) -> Node:
    from ..analysis.apicv import Branch

    outcome = found.outcome.value
    title = f"if the host had it on: {outcome}" if found.is_off else f"by its conditions: {outcome}"
    node = Node(title, "bold")
    if found.host is Branch.NOT_SUPPORTED:
        node.below.append(Node("but this host cannot: its CPU or KVM lacks it"))
    node.below += [_prediction_node(prediction) for prediction in found.predictions if prediction.holds]
    node.below += [Node(f"change {place}: {text}") for place, text in enumerate(found.first, start=1)]
    node.below += [Node(f"note: {_safe(text)}") for text in found.notes]
    return node


def _prediction_node(prediction: Prediction) -> Node:
    return Node(
        f"{prediction.reason} ({prediction.cls.value}), {prediction.certainty.value}: {_safe(prediction.cause)}"
    )


def _safe(text: str) -> str:
    """Evidence can quote a command line, which anybody may have written."""
    from ..host.text import printable

    return printable(text, max_length=300)


def _indented(node: Node, depth: int) -> Iterator[str]:
    yield "  " * depth + node.text
    for below in node.below:
        yield from _indented(below, depth + 1)


def _trees(view: View, chosen: Selection | None) -> list[Any]:
    from rich.text import Text
    from rich.tree import Tree

    def grow(node: Node) -> Tree:
        tree = Tree(Text(node.text, node.style), guide_style="dim")
        for below in node.below:
            tree.children.append(grow(below))
        return tree

    return [grow(node) for node in nodes(view, chosen)]
