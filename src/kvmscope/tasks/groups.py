"""What each opt-in group provides and costs on this host, and trials of groups."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ..catalog.groups import load_groups
from ..collect import Host
from ..errors import SourceError, UsageError
from ..scene import Scene
from ..schema import Scope
from ..sources.bpf import libbpf
from ..sources.bpf.groups import plans_by_name
from ..sources.bpf.groups.loaded import LoadedGroup
from ..sources.bpf.offers import Offer, offers
from ..sources.bpf.source import BpfSource
from ..view.groups import (
    GroupListView,
    GroupState,
    GroupTrialView,
    GroupView,
    ProgramRuns,
    StatOwner,
    check_groups,
    find_vm,
    group_catalogue_view,
    group_list_view,
    group_trial_view,
)
from .following import read_interval


def read_groups(open_it: Callable[[], Host], *, must_read: bool) -> GroupListView:
    """The view of ``list_groups`` for a host that is opened and looked at. If it cannot be read: SourceError with
    ``must_read``, else only the groups, each with the memory that it needs or why this kernel cannot count it."""
    try:
        with open_it() as host:
            return list_groups(host.look())
    except SourceError as error:
        if must_read:
            raise
        return group_catalogue_view(map(_view, offers(vms=0, vcpus=0)), error.reason)


def list_groups(scene: Scene) -> GroupListView:
    """The statistics of a scene by owner, and the groups that this host could count."""
    sample = scene.sample
    offered = () if sample.simulated else offers(vms=len(sample.vms), vcpus=len(sample.vcpus))
    return group_list_view(scene, [_view(offer) for offer in offered])


def _view(offer: Offer) -> GroupView:
    is_here = not offer.why_not
    missing = f"{len(offer.missing)} stats are missing: {offer.missing[0][1]}" if offer.missing else ""
    on = GroupState.PINNED if offer.is_pinned else GroupState.OFF
    return GroupView(
        name=offer.name,
        owner=StatOwner.KVMSCOPE,
        state=on if is_here else GroupState.NOT_HERE,
        note=offer.why_not or offer.doubt or missing,
        vm_stats=offer.stats.get(Scope.VM, 0) if is_here else None,
        vcpu_stats=offer.stats.get(Scope.VCPU, 0) if is_here else None,
        bytes_per_vm=offer.bytes_per.get(Scope.VM, 0) if is_here else None,
        bytes_per_vcpu=offer.bytes_per.get(Scope.VCPU, 0) if is_here else None,
        ns_per_event=load_groups()[offer.name].ns_per_event,
        total_bytes=offer.memory_bytes if is_here else None,
    )


def try_groups(names: Sequence[str], look_s: float, vm: str | None) -> tuple[GroupTrialView, list[str]]:
    """Attach these groups for a while, count for all VMs or for one, and detach them; with notes on a VM that ended.

    Raises UsageError if there is no such VM, PermissionNeeded, Unavailable.
    """
    source = BpfSource(names)
    with Host(source, {}) as host, libbpf.run_statistics():
        loaded = [group for group in source.groups if isinstance(group, LoadedGroup)]
        before = {group.name: ProgramRuns(*group.ran()) for group in loaded}
        first = host.look()
        followed = None if vm is None else find_vm(first, vm)
        interval = read_interval(host, first, look_s, followed)
        runs = {group.name: ProgramRuns(*group.ran()) - before[group.name] for group in loaded}
    subject = None if followed is None else followed.locate(interval.scene)
    return group_trial_view(interval.scene, interval.window, names, runs, subject), interval.notes(followed)


def check_pinnable(names: Sequence[str]) -> None:
    """Raises UsageError for a group that does not exist or cannot be pinned."""
    check_groups(names)
    for name in names:
        if name not in plans_by_name():
            what = "counts while a command runs" if name == "apicv" else "is always read by what is attached"
            raise UsageError(
                f"group {name} cannot be pinned: it {what}; those that can are {', '.join(plans_by_name())}"
            )
