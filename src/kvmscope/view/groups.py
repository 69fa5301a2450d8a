"""The available statistics by owner, their cost, and the counts of opt-in groups over an interval.

``sources.bpf.offers`` knows the statistics and the cost of a group on this host; ``analysis.events`` evaluates its
events.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Annotated

from ..analysis.events import Event, costliest
from ..analysis.window import Window
from ..catalog.groups import GroupHome, kernel_providers, load_groups
from ..errors import UsageError
from ..host.text import printable
from ..sample import Block, Gap, Sample, VmId, gaps_of
from ..scene import Scene
from ..schema import Scope
from ..units import NOT_KNOWN_SIGN, format_bytes, format_count, format_seconds
from .subjects import FollowedVm, Selection, followed, match_subject, near_vms, vcpu_rows
from .text import SIMULATED, columns, counted, note_lines, wrapped
from .values import Answer, Moment, SceneAnswer, SourceChoice, scene_head

_TITLE_CELLS = 32


class StatOwner(Enum):
    """The owner of statistics."""

    KERNEL = "kernel"
    KVMSCOPE = "kvmscope"
    PUBLISHER = "publisher"


class GroupState(Enum):
    """Whether statistics are counted or read."""

    ALWAYS_ON = "always on"
    ALWAYS_READ = "always read"
    PINNED = "pinned"
    OFF = "off"
    NOT_HERE = "not here"


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupView:
    """The statistics of one provider, or one opt-in group."""

    name: Annotated[str, "Name of the provider or group."]
    owner: StatOwner
    state: GroupState
    note: Annotated[str, "Why it is not available here, or what is missing; else empty."]
    vm_stats: Annotated[int | None, "Number of stats of a VM."]
    vcpu_stats: Annotated[int | None, "Number of stats of a vCPU."]
    bytes_per_vm: Annotated[int | None, "Bytes for each VM."]
    bytes_per_vcpu: Annotated[int | None, "Bytes for each vCPU."]
    ns_per_event: Annotated[int | None, "Nanoseconds that an event costs, as measured for bench/RESULTS.md."]
    total_bytes: Annotated[int | None, "Kernel memory on this host; of a group that is off, what attaching takes."]


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupListView(Answer):
    """The available statistics, and their cost."""

    time: Annotated[Moment | None, "When the host was read; null if it could not be."]
    simulated: Annotated[bool | None, "Whether a simulated host stands behind the numbers; null if none was read."]
    source: SourceChoice | None
    why_not: Annotated[str | None, "Why the host was not read, and only opt-in groups are listed; null if it was."]
    vm_count: Annotated[int | None, "Number of VMs; null if not known."]
    vcpu_count: Annotated[int | None, "Number of vCPUs; null if not known."]
    groups: tuple[GroupView, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class EventView:
    """The count of one kind of event for a VM or vCPU."""

    vm: Annotated[VmId, "Id of the VM."]
    name: Annotated[str, "Name of the VM; untrusted text."]
    vcpu: Annotated[int | None, "Id of the vCPU; null for the VM as a whole."]
    event: Annotated[str, "Kind of event: the stat that counts it."]
    per_s: Annotated[float, "Events a second."]
    s_per_s: Annotated[float | None, "Seconds a second that they took."]
    mean_s: Annotated[float | None, "Mean duration in seconds."]
    p50_s: Annotated[float | None, "Median duration in seconds."]
    p99_s: Annotated[float | None, "99th percentile of the duration in seconds."]


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupTrial:
    """The counts of one group."""

    name: Annotated[str, "Name of the group."]
    runs: Annotated[int | None, "How often its programs ran; null if they were loaded before."]
    ns_per_run: Annotated[float | None, "Mean nanoseconds of a run."]
    why_empty: Annotated[str | None, "Why there is no event."]
    events: Annotated[tuple[EventView, ...], "The costliest first."]


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupTrialView(SceneAnswer):
    """The counts of groups in an interval."""

    interval_s: Annotated[float | None, "Seconds for which they counted; null if the VM ended before the second read."]
    vm_count: Annotated[int, "Number of VMs."]
    vcpu_count: Annotated[int, "Number of vCPUs."]
    groups: tuple[GroupTrial, ...]
    gaps: tuple[Gap, ...]


@dataclass(frozen=True, slots=True)
class ProgramRuns:
    """The number of runs of a group's BPF programs, and their total time."""

    count: int
    time_ns: int

    def __sub__(self, before: ProgramRuns) -> ProgramRuns:
        return ProgramRuns(self.count - before.count, self.time_ns - before.time_ns)

    @property
    def ns_per_run(self) -> float | None:
        return self.time_ns / self.count if self.count else None


# --- words ------------------------------------------------------------------------------------------------------------


def split_words(words: Sequence[str]) -> tuple[tuple[str, ...], str | None]:
    """The groups, and the VM that may follow them: a last word that is not the name of a group.

    ``find_vm`` decides by the running VMs whether that word is a VM or a misspelled group.
    """
    *before, last = words
    if before and last not in load_groups():
        return tuple(before), last
    return tuple(words), None


def find_vm(scene: Scene, word: str) -> FollowedVm:
    """The VM or vCPU that the last word names. Raises UsageError, with the nearest groups, if it is neither."""
    found = match_subject(scene, word)
    if found is None:
        groups = nearest_groups(word)
        what = "group and no VM" if groups else "VM"
        raise UsageError(f"there is no {what} '{printable(word)}'", nearest=(*groups, *near_vms(scene, word)))
    return followed(scene, found)


def nearest_groups(word: str) -> tuple[str, ...]:
    """Names of groups that are similar to ``word``."""
    return tuple(difflib.get_close_matches(word, list(load_groups()), n=2))


def check_groups(names: Iterable[str]) -> None:
    """Raises UsageError, with the nearest names, for a group that does not exist."""
    groups = load_groups()
    for name in names:
        if name not in groups:
            message = f"there is no group '{printable(name)}'; there are {', '.join(groups)}"
            raise UsageError(message, nearest=nearest_groups(name))


# --- list -------------------------------------------------------------------------------------------------------------


def group_list_view(scene: Scene, groups: Iterable[GroupView]) -> GroupListView:
    """The providers of a scene, and ``groups``: the opt-in groups."""
    return GroupListView(
        **scene_head(scene),
        why_not=None,
        vm_count=len(scene.sample.vms),
        vcpu_count=len(scene.sample.vcpus),
        groups=(*_provider_views(scene.sample), *groups),
    )


def group_catalogue_view(groups: Iterable[GroupView], why_not: str) -> GroupListView:
    """The groups alone, if no VM can be read for the reason ``why_not``."""
    return GroupListView(
        time=None, simulated=None, source=None, why_not=why_not, vm_count=None, vcpu_count=None, groups=tuple(groups)
    )


def _provider_views(sample: Sample) -> Iterator[GroupView]:
    """The providers of a sample. An opt-in group has a separate row, even if it is pinned."""
    groups = load_groups()
    for provider in dict.fromkeys(block.schema.provider for block in sample.blocks):
        group = groups.get(provider)
        if sample.simulated or group is None or group.home is GroupHome.ITERATOR:
            blocks = [block for block in sample.blocks if block.schema.provider == provider]
            yield _provider_view(provider, _owner(provider, is_simulated=sample.simulated), blocks)


def _owner(provider: str, *, is_simulated: bool) -> StatOwner:
    if is_simulated or provider not in kernel_providers():
        return StatOwner.PUBLISHER
    return StatOwner.KERNEL if provider == "kvm" else StatOwner.KVMSCOPE


def _provider_view(provider: str, owner: StatOwner, blocks: Sequence[Block]) -> GroupView:
    stats, size = {}, {}
    for scope in Scope:
        schemas = [block.schema for block in blocks if block.schema.scope is scope]
        stats[scope] = max((len(schema.descriptors) for schema in schemas), default=0)
        size[scope] = max((schema.data_size for schema in schemas), default=0)
    return GroupView(
        name=provider,
        owner=owner,
        state=GroupState.ALWAYS_READ if owner is StatOwner.KVMSCOPE else GroupState.ALWAYS_ON,
        note="",
        vm_stats=stats[Scope.VM],
        vcpu_stats=stats[Scope.VCPU],
        bytes_per_vm=size[Scope.VM],
        bytes_per_vcpu=size[Scope.VCPU],
        ns_per_event=None,
        total_bytes=sum(block.schema.data_size * len(block.rows) for block in blocks),
    )


def group_list_lines(view: GroupListView, *, width: int | None) -> Iterator[str]:
    """One line per provider or group, then what each group counts."""
    if view.simulated:
        yield SIMULATED
    table = [("NAME", "OWNER", "STATE", "VM STATS", "vCPU STATS", "B/VM", "B/vCPU", "ns/EVENT", "MEMORY")]
    table += [
        (
            row.name,
            row.owner.value,
            row.state.value,
            _number(row.vm_stats),
            _number(row.vcpu_stats),
            _number(row.bytes_per_vm),
            _number(row.bytes_per_vcpu),
            "" if row.ns_per_event is None else f"~{row.ns_per_event}",
            format_bytes(row.total_bytes),
        )
        for row in view.groups
    ]
    yield from columns(table, right=(3, 4, 5, 6, 7, 8))
    yield ""
    if view.vm_count is None or view.vcpu_count is None:
        yield f"No VM can be read here, so no group can count: {view.why_not}. `kvmscope check` says what would help."
        yield "MEMORY: kernel memory that attaching would take, with room for VMs to come."
    else:
        vms, vcpus = counted(view.vm_count, "VM"), counted(view.vcpu_count, "vCPU")
        yield f"MEMORY: kernel memory for {vms} with {vcpus}; if off, what attaching would take, with room for more."
    yield "A group that is off costs nothing. ns/EVENT is from bench/RESULTS.md; `groups try` measures it on this host."
    groups = load_groups()
    notes = [
        f"{row.name}: {groups[row.name].title}{_note(row)}"
        for row in view.groups
        if row.name in groups and row.state is not GroupState.ALWAYS_READ
    ]
    yield from wrapped(notes, indent=2, width=width)


def _number(value: int | None) -> str:
    return NOT_KNOWN_SIGN if value is None else str(value)


def _note(row: GroupView) -> str:
    if row.state is GroupState.NOT_HERE:
        return f" · not available here: {row.note}"
    return f" · {row.note}" if row.note else ""


# --- try --------------------------------------------------------------------------------------------------------------


def group_trial_view(
    scene: Scene,
    window: Window | None,
    names: Sequence[str],
    runs: Mapping[str, ProgramRuns],
    subject: Selection | None = None,
) -> GroupTrialView:
    """The counts of groups in ``window``, which ends with ``scene``; for one VM or vCPU if ``subject`` is given.

    ``window`` is None if the chosen VM ended before it was read twice. ``runs``: by group, the runs of the programs
    that were loaded for this trial.
    """
    return GroupTrialView(
        **scene_head(scene),
        interval_s=None if window is None else window.interval_s,
        vm_count=len(scene.sample.vms),
        vcpu_count=len(scene.sample.vcpus),
        groups=tuple(_trial(scene, window, name, runs.get(name), subject) for name in names),
        gaps=tuple(_gaps_of(scene, subject)),
    )


def _gaps_of(scene: Scene, subject: Selection | None) -> Iterator[Gap]:
    """The gaps of a VM or of one of its vCPUs, with those of all VMs; every gap if none was chosen."""
    vm = None if subject is None else scene.sample.vms.vm_id(subject.vm)
    vcpu = None if subject is None or subject.vcpu is None else int(scene.sample.vcpus.id[subject.vcpu])
    return (gap for gap in gaps_of(scene.sample.gaps, vm) if vcpu is None or gap.vcpu in (None, vcpu))


def _trial(
    scene: Scene, window: Window | None, name: str, runs: ProgramRuns | None, subject: Selection | None
) -> GroupTrial:
    events = () if window is None else tuple(_events(scene, window, name, subject))
    return GroupTrial(
        name=name,
        runs=runs.count if runs else None,
        ns_per_run=runs.ns_per_run if runs else None,
        why_empty=None
        if events
        else _why_empty(scene, name, subject)
        if window
        else "unknown: the VM ended within the interval",
        events=events,
    )


def _events(scene: Scene, window: Window, provider: str, subject: Selection | None) -> Iterator[EventView]:
    """The events of a provider, for VMs or for the one vCPU that was chosen."""
    is_vcpu = subject is not None and subject.vcpu is not None
    at = Scope.VCPU if is_vcpu else Scope.VM
    row = None if subject is None else subject.vcpu if is_vcpu else subject.vm
    for block in scene.sample.blocks:
        if block.schema.provider == provider and not (is_vcpu and block.schema.scope is Scope.VM):
            found = costliest(window, block.schema, at=at)
            yield from (_event(scene, at, event) for event in found if row in (None, event.row))


def _event(scene: Scene, scope: Scope, event: Event) -> EventView:
    vcpus = scene.sample.vcpus
    vm = event.row if scope is Scope.VM else int(vcpus.vm[event.row])
    return EventView(
        vm=scene.sample.vms.vm_id(vm),
        name=scene.identities[vm].name,
        vcpu=None if scope is Scope.VM else int(vcpus.id[event.row]),
        event=event.kind.count,
        per_s=event.per_s,
        s_per_s=event.s_per_s,
        mean_s=event.mean_s,
        p50_s=event.p50_s,
        p99_s=event.p99_s,
    )


def _why_empty(scene: Scene, name: str, subject: Selection | None) -> str:
    """Why a group has no events: the VM or vCPU caused none, or the group does not count it, so that is unknown."""
    if not len(scene.sample.vms):
        return "no VM is running"
    if any(_has_row(scene.sample, block, subject) for block in scene.sample.blocks if block.schema.provider == name):
        return "no such event in this interval"
    reasons = (gap.reason for gap in _gaps_of(scene, subject) if gap.provider == name)
    return f"unknown: {next(reasons, 'nothing of it was read')}"


def _has_row(sample: Sample, block: Block, subject: Selection | None) -> bool:
    """Whether a block has a row of the chosen VM or vCPU, or any row if none was chosen."""
    if subject is None:
        return len(block.rows) > 0
    if block.schema.scope is Scope.VM:
        return subject.vm in block.rows
    return any(row in block.rows for row in vcpu_rows(sample, subject))


def group_trial_lines(view: GroupTrialView, *, limit: int | None) -> Iterator[str]:
    """The events of each group; ``limit``: maximum number of events per group."""
    yield (
        f"{counted(view.vm_count, 'VM')}, {counted(view.vcpu_count, 'vCPU')} · "
        f"{format_seconds(view.interval_s)} by {view.source.name}"
    )
    for group in view.groups:
        yield ""
        cost = (
            f"; its programs ran {format_count(group.runs)} times, {group.ns_per_run:.0f} ns each"
            if group.ns_per_run
            else ""
        )
        yield f"{group.name}: {load_groups()[group.name].title}{cost}"
        if group.why_empty is not None:
            yield f"  {group.why_empty}"
            continue
        yield from (f"  {line}" for line in _event_table(group.events[:limit]))
        if limit is not None and len(group.events) > limit:
            yield f"  … and {len(group.events) - limit} more; --all shows them"
    yield from note_lines(view.source.name, view.source.why_not, view.gaps)


def _event_table(events: Sequence[EventView]) -> list[str]:
    rows: list[tuple[str, ...]] = [("VM", "EVENT", "PER SECOND", "TIME/s", "MEAN", "P50", "P99")]
    for event in events:
        name = printable(event.name, max_length=_TITLE_CELLS)
        subject = name if event.vcpu is None else f"{name}/{event.vcpu}"
        times = (event.s_per_s, event.mean_s, event.p50_s, event.p99_s)
        rows.append((subject, event.event, format_count(event.per_s), *map(format_seconds, times)))
    return columns(rows, right=(2, 3, 4, 5, 6))
