"""Interrupt acceleration of the VMs of a fleet: accelerated or blocked, the reasons, and the changes that would unblock
most VMs.

Rule: a VM counts once in each group. A reason's cost covers only the VMs that no other reason blocks, so the costs of
all reasons add up to no more than the total.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Final

from ...catalog.inhibits import InhibitClass, load_inhibits, unlisted
from ...engines.fleet import AccelerationState, FleetAcceleration, FleetHost, FleetStore
from .place import UNKNOWN, FleetAnswer, fleet_head

_PARAMETERS: Final = ("kvm_intel.enable_apicv", "kvm_intel.enable_ipiv", "kvm_amd.avic", "kvm_amd.enable_ipiv")
"""The module parameters that decide about interrupt acceleration."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AccelerationGroup:
    """VMs of similar hosts, or of one VMM."""

    name: Annotated[str, "What they have in common; untrusted where it is a VMM's name."]
    hosts: Annotated[int, "How many hosts."]
    vms: Annotated[int, "How many VMs."]
    vcpus: Annotated[int, "How many vCPUs they have."]
    states: Annotated[Mapping[str, int], "VMs by state: active, blocked, off, unsupported, unknown."]
    reasons: Annotated[Mapping[str, int], "Blocked VMs by the reason that blocks them, the most frequent first."]
    injections_per_s: Annotated[float | None, "Interrupts a second that KVM injects in software."]
    cost_cpus: Annotated[float | None, "About how many CPUs interrupts without acceleration cost."]


@dataclass(frozen=True, slots=True, kw_only=True)
class Unblocking:
    """A reason, and the effect of its removal."""

    reason: Annotated[str, "The kernel's name of the reason, in lower case."]
    class_: Annotated[InhibitClass, "Who brings it about."]
    meaning: Annotated[str, "What it means."]
    remedy: Annotated[str, "The change that removes it."]
    hosts: Annotated[int, "On how many hosts it blocks VMs."]
    vms: Annotated[int, "How many VMs it blocks."]
    vms_alone: Annotated[int, "How many of them no other reason blocks: these would be accelerated."]
    injections_per_s: Annotated[float, "Interrupts a second that KVM injects for these in software."]
    cost_cpus: Annotated[float, "About how many CPUs that costs."]


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetApicvView(FleetAnswer):
    """The answer of ``fleet apicv``."""

    total: Annotated[AccelerationGroup, "All VMs."]
    by_kernel: Annotated[Sequence[AccelerationGroup], "By kernel and KVM module, the costliest first."]
    by_parameter: Annotated[Sequence[AccelerationGroup], "By module parameter and its value."]
    by_vmm: Annotated[Sequence[AccelerationGroup], "By VMM."]
    unblock: Annotated[Sequence[Unblocking], "What would unblock most, by what it costs now."]


def fleet_apicv_view(store: FleetStore) -> FleetApicvView:
    """Interrupt acceleration of every VM of the fleet."""
    hosts = store.hosts()
    head = fleet_head(store, hosts)
    of_id = {host.host: host for host in hosts}
    vms = store.acceleration()
    return FleetApicvView(
        **head,
        total=_group("all", vms),
        by_kernel=_groups(vms, lambda vm: [_kernel(of_id.get(vm.host))]),
        by_parameter=_groups(vms, lambda vm: _parameters(of_id.get(vm.host))),
        by_vmm=_groups(vms, lambda vm: [vm.vmm or UNKNOWN]),
        unblock=tuple(sorted(_unblockings(vms), key=lambda each: (-each.cost_cpus, -each.vms_alone, each.reason))),
    )


def _kernel(host: FleetHost | None) -> str:
    if host is None:
        return UNKNOWN
    return f"{host.kernel or UNKNOWN} {host.module or ''}".rstrip()


def _parameters(host: FleetHost | None) -> Iterator[str]:
    for name in _PARAMETERS:
        if host is not None and name in host.parameters:
            yield f"{name}={host.parameters[name]}"


def _groups(
    vms: Iterable[FleetAcceleration], names: Callable[[FleetAcceleration], Iterable[str]]
) -> tuple[AccelerationGroup, ...]:
    of_name: dict[str, list[FleetAcceleration]] = {}
    for vm in vms:
        for name in names(vm):
            of_name.setdefault(name, []).append(vm)
    groups = (_group(name, of) for name, of in of_name.items())
    return tuple(sorted(groups, key=lambda group: (-(group.cost_cpus or 0.0), -group.vms, group.name)))


def _group(name: str, vms: Sequence[FleetAcceleration]) -> AccelerationGroup:
    states = Counter(vm.state for vm in vms)
    reasons = Counter(reason for vm in vms for reason in vm.reasons)
    injections = [vm.injections_per_s for vm in vms if vm.injections_per_s is not None]
    costs = [vm.cost_cpus for vm in vms if vm.cost_cpus is not None]
    return AccelerationGroup(
        name=name,
        hosts=len({vm.host for vm in vms}),
        vms=len(vms),
        vcpus=sum(vm.vcpus for vm in vms),
        states={state.value: states[state] for state in AccelerationState},
        reasons=dict(reasons.most_common()),
        injections_per_s=sum(injections) if injections else None,
        cost_cpus=sum(costs) if costs else None,
    )


def _unblockings(vms: Iterable[FleetAcceleration]) -> Iterator[Unblocking]:
    of_reason: dict[str, list[FleetAcceleration]] = {}
    for vm in vms:
        if vm.state is not AccelerationState.UNSUPPORTED:
            for reason in vm.reasons:
                of_reason.setdefault(reason, []).append(vm)
    for reason, blocked in of_reason.items():
        inhibit = load_inhibits().get(reason, unlisted(reason))
        alone = [vm for vm in blocked if len(vm.reasons) == 1]
        yield Unblocking(
            reason=reason,
            class_=inhibit.cls,
            meaning=inhibit.meaning,
            remedy=inhibit.remedy(()),
            hosts=len({vm.host for vm in blocked}),
            vms=len(blocked),
            vms_alone=len(alone),
            injections_per_s=sum(vm.injections_per_s or 0.0 for vm in alone),
            cost_cpus=sum(vm.cost_cpus or 0.0 for vm in alone),
        )
