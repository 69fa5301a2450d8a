"""The verdict on interrupt acceleration as a tree of lines.

VMs with the same verdict are shown together unless each is requested, so a fact of the host or of a kind of VM appears
once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import replace
from typing import Final

from ..analysis.apicv import Branch, Certainty, Outcome, State, Witness
from ..host.text import printable
from ..sample import gaps_of
from ..units import format_seconds, format_share
from .apicv import ApicvView, InhibitView, LimitView, PredictionView, VcpuApicvView, VmApicvView, WhatIfView
from .text import SIMULATED, Style, counted, few, no_vm_line, note_lines
from .tree import TextNode

_MOST_ALIKE = 3
"""Maximum number of different causes, notes and so on that are shown for a group of VMs."""

_MAX_QUOTE = 300

_ANSWERS = {True: "yes", False: "no", None: "unknown"}
_STYLES = {State.ACTIVE: Style.GOOD, State.INHIBITED: Style.PROBLEM}
_WORST_FIRST = (State.INHIBITED, State.UNKNOWN, State.PENDING, State.ACTIVE, State.UNSUPPORTED)
_CHECKS = {
    Witness.AGREES: "confirmed",
    Witness.CONTRADICTS: "contradicted",
    Witness.CANNOT_TELL: "inconclusive",
}
_CERTAINTIES = {Certainty.CERTAIN: "certain", Certainty.LIKELY: "likely", Certainty.POSSIBLE: "possible"}
_OUTCOMES = {
    Outcome.ACCELERATED: "accelerated",
    Outcome.INHIBITED: "inhibited",
    Outcome.REFUSED: "cannot be started",
    Outcome.UNKNOWN: "unknown",
}


_ONE_VM: Final = "`kvmscope apicv VM` shows one VM with its evidence, --all shows every VM"


def apicv_nodes(view: ApicvView, *, each_vm: bool = False, one_vm: str = _ONE_VM) -> list[TextNode]:
    """The verdicts, top to bottom. ``each_vm``: show every VM separately, with all its evidence. ``one_vm``: a line
    that says how to do so, shown below grouped VMs.
    """
    nodes = [TextNode(SIMULATED, Style.ALERT)] if view.simulated else []
    nodes.append(_host_node(view))
    if not view.vms:
        nodes.append(TextNode(no_vm_line(view.source.name, view.gaps)))
    groups = [[vm] for vm in view.vms] if each_vm else _groups(view.vms)
    nodes += [
        _group_node(group, len(view.vms)) if len(group) > 1 else _vm_node(group[0], is_simulated=view.simulated)
        for group in groups
    ]
    if len(groups) < len(view.vms):
        nodes.append(TextNode(one_vm, Style.DIM))
    chosen = view.vms[0].id if each_vm and len(view.vms) == 1 else None
    notes = note_lines(view.source.name, view.source.why_not, gaps_of(view.gaps, chosen))
    return nodes + [TextNode(line, Style.DIM) for line in notes]


def _vm_node(vm: VmApicvView, *, is_simulated: bool) -> TextNode:
    """One VM with all its evidence."""
    verdict = vm.apicv
    # The host's lines say why it is not supported, except for simulated VMs, which have a host each.
    reasons = () if verdict.branch is Branch.NOT_SUPPORTED and not is_simulated else verdict.reasons
    below = [_reason_node(reason, is_verified=verdict.verified) for reason in reasons]
    below += [node for limit in verdict.limits for node in _limit_nodes([limit])]
    below += _vcpu_nodes(vm.vcpus)
    below += [TextNode(f"contradiction: {_quoted(text)}", Style.WARNING) for text in verdict.contradictions]
    below += [TextNode(f"note: {_quoted(text)}") for text in verdict.notes]
    if not verdict.reasons and verdict.evidence:
        evidence = "; ".join(_quoted(each.text) for each in verdict.evidence)
        below.append(TextNode(f"evidence: {evidence}", Style.DIM))
    below += [TextNode(f"to find out: {text}") for text in verdict.would_tell]
    if vm.what_if is not None:
        below.append(_what_if_node([vm.what_if]))
    return TextNode(f"{printable(vm.name)}: {headline(vm)}", _STYLES.get(verdict.state, Style.HEAD), tuple(below))


def headline(vm: VmApicvView) -> str:
    """The verdict on a VM in a line."""
    names = ", ".join(reason.name for reason in vm.apicv.reasons)
    if vm.apicv.branch is Branch.UNKNOWN:
        return f"unknown; expected from the configuration: {names}" if names else "unknown"
    words = {
        Branch.NOT_SUPPORTED: "not supported here",
        Branch.OFF_BY_PARAMETER: "off by module parameter",
        Branch.OFF: "off on this host (module parameter or missing hardware)",
        Branch.NO_APIC: "no local APIC in the kernel",
        Branch.INHIBITED: f"inhibited by {names}",
        Branch.PENDING: "off until each vCPU's next KVM_RUN",
        Branch.ACTIVE: "active",
        Branch.PARTLY: "active in part",
    }
    return words[vm.apicv.branch]


# --- the host ---------------------------------------------------------------------------------------------------------


def _host_node(view: ApicvView) -> TextNode:
    host = view.host
    if view.simulated:
        return TextNode("host: each simulated VM pretends to run on one of its own", Style.HEAD)
    facts = [("CPU and KVM have it", host.supported)]
    if host.supported.value is not False:
        facts.append(("switched on", host.switched_on))
    below = (TextNode(f"{title}: {_ANSWERS[fact.value]} ({_quoted(fact.evidence)})") for title, fact in facts)
    name = printable(host.name or "this host")
    return TextNode(f"host {name}: {host.module or 'unknown KVM module'}", Style.HEAD, tuple(below))


# --- VMs that are shown together --------------------------------------------------------------------------------------


def _groups(vms: Iterable[VmApicvView]) -> list[list[VmApicvView]]:
    """VMs grouped by verdict; verdicts that need attention come first."""
    groups: dict[Hashable, list[VmApicvView]] = {}
    for vm in vms:
        groups.setdefault(_group_key(vm), []).append(vm)
    return sorted(groups.values(), key=lambda group: _WORST_FIRST.index(group[0].apicv.state))


def _group_key(vm: VmApicvView) -> Hashable:
    verdict, found = vm.apicv, vm.what_if
    reasons, limits = (tuple(each.name for each in part) for part in (verdict.reasons, verdict.limits))
    said = (verdict.branch, verdict.verified, reasons, limits, bool(verdict.contradictions))
    if found is None:
        return said
    held = tuple((each.reason, each.certainty) for each in found.predictions if each.holds)
    return (*said, found.outcome, found.is_off_now, found.host, found.first, held)


def _group_node(group: Sequence[VmApicvView], total: int) -> TextNode:
    verdict = group[0].apicv
    names = "" if len(group) == total else f" ({few([printable(vm.name) for vm in group])})"
    title = f"{headline(group[0])}: {counted(len(group), 'VM')}{names}"
    # The host's lines already say that it is not supported.
    below = [] if verdict.branch is Branch.NOT_SUPPORTED else _verdict_nodes(group)
    below += _contradiction_nodes(group)
    below += _shared("note", [vm.apicv.notes for vm in group])
    below += _shared("to find out", [vm.apicv.would_tell for vm in group])
    predicted = [vm.what_if for vm in group if vm.what_if is not None]
    if predicted:
        below.append(_what_if_node(predicted))
    return TextNode(title, _STYLES.get(verdict.state, Style.HEAD), tuple(below))


def _verdict_nodes(group: Sequence[VmApicvView]) -> list[TextNode]:
    """Reasons, limits and vCPUs of VMs that have the same reasons and limits."""
    verdict = group[0].apicv
    nodes = [
        _shared_reason_node([vm.apicv.reasons[place] for vm in group], is_verified=verdict.verified)
        for place in range(len(verdict.reasons))
    ]
    for place in range(len(verdict.limits)):
        nodes += _limit_nodes([vm.apicv.limits[place] for vm in group])
    return nodes + _vcpu_nodes([vcpu for vm in group for vcpu in vm.vcpus], by_count=True)


def _limit_nodes(limits: Sequence[LimitView]) -> list[TextNode]:
    """One limit on acceleration that several VMs have."""
    said = _shared("not accelerated", [[f"{each.text} ({each.evidence.text})"] for each in limits])
    below = _shared("cost", [[each.cost] for each in limits]) + _shared("remedy", [[each.remedy] for each in limits])
    return [*said[:-1], replace(said[-1], below=tuple(below))]


def _shared_reason_node(reasons: Sequence[InhibitView], *, is_verified: bool) -> TextNode:
    """One reason that several VMs have."""
    first = reasons[0]
    below = _shared("cause", [[each.cause] for each in reasons])
    below += _shared("remedy", [[each.remedy] for each in reasons])
    if is_verified and first.name != "disabled":
        below.append(TextNode(f"cleared by: {first.cleared_by}"))
    return TextNode(_reason_title(first, "", is_verified=is_verified), below=tuple(below))


def _contradiction_nodes(group: Sequence[VmApicvView]) -> list[TextNode]:
    texts = [(vm, text) for vm in group for text in vm.apicv.contradictions]
    nodes = [
        TextNode(f"contradiction in {printable(vm.name)}: {_quoted(text)}", Style.WARNING)
        for vm, text in texts[:_MOST_ALIKE]
    ]
    more = len(texts) - _MOST_ALIKE
    return nodes + ([TextNode(f"… and {counted(more, 'more contradiction')}", Style.WARNING)] if more > 0 else [])


def _shared(label: str, texts: Sequence[Sequence[str]]) -> list[TextNode]:
    """Each text once, the most frequent first; ``texts``: the texts of each VM."""
    count = Counter(text for of_vm in texts for text in dict.fromkeys(of_vm))
    ordered = count.most_common()
    nodes = []
    for text, vms in ordered[:_MOST_ALIKE]:
        share = "" if vms == len(texts) else f" ({counted(vms, 'VM')})"
        nodes.append(TextNode(f"{label}: {_quoted(text)}{share}"))
    more = len(ordered) - _MOST_ALIKE
    return nodes + ([TextNode(f"{label}: … and {more} more")] if more > 0 else [])


# --- reasons ----------------------------------------------------------------------------------------------------------


def _reason_node(reason: InhibitView, *, is_verified: bool) -> TextNode:
    below = [TextNode(f"cause: {_quoted(reason.cause)}"), TextNode(f"remedy: {reason.remedy}")]
    if is_verified and reason.name != "disabled":
        below.append(TextNode(f"cleared by: {reason.cleared_by}"))
    evidence = "; ".join(dict.fromkeys(_quoted(each.text) for each in reason.evidence))
    check = f" (cross-check: {_CHECKS[reason.witness]})" if is_verified else ""
    below.append(TextNode(f"evidence: {evidence}{check}", Style.DIM))
    return TextNode(_reason_title(reason, _times(reason), is_verified=is_verified), below=tuple(below))


def _reason_title(reason: InhibitView, times: str, *, is_verified: bool) -> str:
    title = f"{reason.name} ({reason.class_.value}){times}: {reason.meaning}"
    return title if is_verified else f"expected, {_CERTAINTIES[reason.certainty]}: {title}"


def _times(reason: InhibitView) -> str:
    parts = [reason.history] if reason.history and reason.share is None else []
    if reason.since_s is not None:
        parts.append(f"for {'at least ' if reason.since_is_at_least else ''}{_duration(reason.since_s)}")
    if reason.share is not None:
        parts.append(f"{format_share(reason.share)} of the interval")
    return f", {', '.join(parts)}" if parts else ""


_LONG_S = ((86400.0, "days"), (3600.0, "hours"), (60.0, "minutes"))


def _duration(seconds: float) -> str:
    """``512 ms``, ``5 minutes``, ``24 days``: two of the largest unit or more."""
    for length_s, unit in _LONG_S:
        if seconds >= 2 * length_s:
            return f"{seconds / length_s:.0f} {unit}"
    return format_seconds(seconds)


# --- vCPUs ------------------------------------------------------------------------------------------------------------


def _vcpu_nodes(vcpus: Iterable[VcpuApicvView], *, by_count: bool = False) -> list[TextNode]:
    """A line for all vCPUs with the same verdict. ``by_count``: show their number, not ids, if of several VMs."""
    groups: dict[str, list[int]] = {}
    for vcpu in vcpus:
        groups.setdefault(_vcpu_text(vcpu), []).append(vcpu.id)
    if not by_count:
        return [TextNode(f"{_id_ranges(ids)}: {text}") for text, ids in groups.items()]
    ordered = sorted(groups.items(), key=lambda group: -len(group[1]))
    nodes = [TextNode(f"{counted(len(ids), 'vCPU')}: {text}") for text, ids in ordered[:_MOST_ALIKE]]
    more = sum(len(ids) for _, ids in ordered[_MOST_ALIKE:])
    return nodes + ([TextNode(f"… and {counted(more, 'vCPU')} in other states")] if more else [])


def _vcpu_text(vcpu: VcpuApicvView) -> str:
    parts = [vcpu.state.value]
    if vcpu.reasons:
        parts.append("by " + ", ".join(reason.name for reason in vcpu.reasons))
    if vcpu.provisional:
        parts.append("provisional")
    if vcpu.active_share is not None:
        parts.append(f"active for {format_share(vcpu.active_share)} of the interval")
    return ", ".join((*parts, *vcpu.notes))


def _id_ranges(ids: Sequence[int]) -> str:
    """``vCPU 0``, ``vCPUs 0-3, 8``."""
    runs: list[list[int]] = []
    for number in sorted(ids):
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    text = ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in runs)
    return f"vCPU{'s' if len(ids) > 1 else ''} {text}"


# --- what if ----------------------------------------------------------------------------------------------------------


def _what_if_node(found: Sequence[WhatIfView]) -> TextNode:
    """The predictions and changes for one VM, or for several with the same outcome."""
    first = found[0]
    if first.host is Branch.NOT_SUPPORTED and not first.predictions and first.outcome is Outcome.UNKNOWN:
        return TextNode("APICv/AVIC cannot be switched on: this host's CPU or KVM lacks it", Style.HEAD)
    outcome = _OUTCOMES[first.outcome]
    title = f"with APICv/AVIC switched on: {outcome}" if first.is_off_now else f"by its conditions: {outcome}"
    below: list[TextNode] = []
    if first.host is Branch.NOT_SUPPORTED:
        below.append(TextNode("not possible on this host: its CPU or KVM lacks it"))
    held = [[each for each in one.predictions if each.holds] for one in found]
    for place, prediction in enumerate(held[0]):
        below += _shared(_prediction_title(prediction), [[of_vm[place].cause] for of_vm in held])
    below += [TextNode(f"change {place}: {text}") for place, text in enumerate(first.first, start=1)]
    below += _shared("note", [one.notes for one in found])
    return TextNode(title, Style.HEAD, tuple(below))


def _prediction_title(prediction: PredictionView) -> str:
    return f"{prediction.reason} ({prediction.class_.value}), {_CERTAINTIES[prediction.certainty]}"


def _quoted(text: str) -> str:
    """Evidence made fit to print: it may quote a command line, which is untrusted text."""
    return printable(text, max_length=_MAX_QUOTE)
