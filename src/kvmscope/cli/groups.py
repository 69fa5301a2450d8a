"""``kvmscope groups``: the opt-in groups of statistics, what each costs, and trying or pinning one.

What they count is in ``sources.bpf.groups``; what that came to is in ``analysis.events``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import click

from ..errors import UsageError
from .options import json_option, parse_duration, source_option

if TYPE_CHECKING:
    from ..analysis.events import Event
    from ..analysis.window import Window
    from ..sample import Sample
    from ..scene import Scene
    from ..schema import Scope
    from ..sources.bpf.offers import Offer

EVENTS_SHOWN = 20


class _Groups(click.Group):
    """Without a subcommand it lists."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if not args or (args[0].startswith("-") and args[0] not in ("-h", "--help")):
            args = ["list", *args]
        return super().parse_args(ctx, args)


@click.group("groups", cls=_Groups, short_help="Statistics that are off until asked for, and what they cost.")
def command() -> None:
    """List groups of statistics with their cost, count one for a while, or leave one counting.

    \b
    kvmscope groups
    kvmscope groups try exits --for 10s
    kvmscope groups pin wakeups

    Without a subcommand it is `kvmscope groups list`.
    """


# --- list -------------------------------------------------------------------------------------------------------------


@command.command("list")
@source_option
@json_option
def list_command(*, source: str, as_json: bool) -> None:
    """Show what statistics there are, by who owns them, and what they cost: always on, or off until asked for."""
    from .session import open_host

    with open_host(source) as host:
        scene = host.look()
    rows = list(_rows(scene.sample))
    if as_json:
        from ..view import jsonout

        groups = [row.to_json() for row in rows]
        click.echo(jsonout.dump({**jsonout.head(scene), "groups": groups}))
        return
    from .echo import echo_lines

    echo_lines(list_lines(scene.sample, rows))


@dataclass(frozen=True)
class Row:
    """One owner's statistics, or one group. Counts and bytes are None where they are not known."""

    name: str
    owner: str
    state: str
    note: str
    vm_stats: int | None
    vcpu_stats: int | None
    bytes_per_vm: int | None
    bytes_per_vcpu: int | None
    ns_per_event: int | None
    total_bytes: int | None

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def _rows(sample: Sample) -> Iterator[Row]:
    """What is always on, then what is off until it is asked for."""
    yield from _always_on(sample)
    if not sample.simulated:
        from ..sources.bpf.offers import offers

        yield from (_row_of(offer) for offer in offers(vms=len(sample.vms), vcpus=len(sample.vcpus)))


def _always_on(sample: Sample) -> Iterator[Row]:
    from ..catalog.groups import kernel_providers
    from ..schema import Scope
    from ..sources.bpf.groups import PLANS

    for provider in dict.fromkeys(block.schema.provider for block in sample.blocks):
        if provider in PLANS and not sample.simulated:
            continue  # a group that is pinned: it has a row of its own
        blocks = [block for block in sample.blocks if block.schema.provider == provider]
        stats, size = {}, {}
        for scope in Scope:
            schemas = [block.schema for block in blocks if block.schema.scope is scope]
            stats[scope] = max((len(schema.descriptors) for schema in schemas), default=0)
            size[scope] = max((schema.data_size for schema in schemas), default=0)
        is_kernel = provider in kernel_providers() and not sample.simulated
        owner = "kernel" if provider == "kvm" and is_kernel else "kvmscope" if is_kernel else "publisher"
        yield Row(
            name=provider,
            owner=owner,
            state="always read" if owner == "kvmscope" else "always on",
            note="",
            vm_stats=stats[Scope.VM],
            vcpu_stats=stats[Scope.VCPU],
            bytes_per_vm=size[Scope.VM],
            bytes_per_vcpu=size[Scope.VCPU],
            ns_per_event=None,
            total_bytes=sum(block.schema.data_size * len(block.rows) for block in blocks),
        )


def _row_of(offer: Offer) -> Row:
    from ..catalog.groups import load_groups
    from ..schema import Scope

    def known(values: Any, scope: Scope) -> int | None:
        return None if offer.why_not else values.get(scope, 0)

    missing = f"{len(offer.missing)} stats are missing: {offer.missing[0][1]}" if offer.missing else ""
    state = "not here" if offer.why_not else "pinned" if offer.is_pinned else "off"
    return Row(
        name=offer.name,
        owner="kvmscope",
        state=state,
        note=offer.why_not or offer.doubt or missing,
        vm_stats=known(offer.stats, Scope.VM),
        vcpu_stats=known(offer.stats, Scope.VCPU),
        bytes_per_vm=known(offer.bytes_per, Scope.VM),
        bytes_per_vcpu=known(offer.bytes_per, Scope.VCPU),
        ns_per_event=load_groups()[offer.name].ns_per_event,
        total_bytes=None if offer.why_not else offer.memory_bytes,
    )


def list_lines(sample: Sample, rows: Sequence[Row]) -> Iterator[str]:
    """A line a row, then what is to be said of some."""
    from ..catalog.groups import load_groups
    from ..units import NOT_KNOWN_SIGN, format_bytes
    from ..view.text import SIMULATED, columns, counted
    from .echo import wrapped

    def number(value: int | None) -> str:
        return NOT_KNOWN_SIGN if value is None else str(value)

    if sample.simulated:
        yield SIMULATED
    table = [("NAME", "OWNER", "STATE", "VM STATS", "vCPU STATS", "B/VM", "B/vCPU", "ns/EVENT", "HERE")]
    table += [
        (
            row.name,
            row.owner,
            row.state,
            number(row.vm_stats),
            number(row.vcpu_stats),
            number(row.bytes_per_vm),
            number(row.bytes_per_vcpu),
            "" if row.ns_per_event is None else f"~{row.ns_per_event}",
            format_bytes(row.total_bytes),
        )
        for row in rows
    ]
    yield from columns(table, right=(3, 4, 5, 6, 7, 8))
    yield ""
    vms, vcpus = counted(len(sample.vms), "VM"), counted(len(sample.vcpus), "vCPU")
    yield f"HERE is for {vms} with {vcpus}: of what is off, what it would hold while it counts, with room to spare."
    yield "What is off takes nothing. ns/EVENT is of the machine of bench/RESULTS.md; `groups try` measures it here."
    groups = load_groups()
    notes = [
        f"{row.name}: {groups[row.name].title}{_reason(row)}"
        for row in rows
        if row.name in groups and row.state != "always read"
    ]
    yield from wrapped(notes, indent=2)


def _reason(row: Row) -> str:
    if row.state == "not here":
        return f" · not here: {row.note}"
    return f" · {row.note}" if row.note else ""


# --- try --------------------------------------------------------------------------------------------------------------


@command.command("try")
@click.argument("words", nargs=-1, required=True, metavar="GROUP… [VM[/VCPU]]")
@click.option(
    "--for",
    "look_s",
    callback=parse_duration,
    default="10s",
    show_default=True,
    metavar="TIME",
    help="How long to count.",
)
@click.option("--vm", metavar="VM[/VCPU]", hidden=True, help="The VM, for scripts that name it so.")
@click.option(
    "--all", "-a", "show_all", is_flag=True, help=f"Every kind of event, not only the {EVENTS_SHOWN} costliest."
)
@json_option
def try_command(*, words: tuple[str, ...], look_s: float, vm: str | None, show_all: bool, as_json: bool) -> None:
    """Count a group's events for a while, on all VMs or on one, show the costliest first, and leave nothing behind.

    \b
    kvmscope groups try exits
    kvmscope groups try exits userspace web-1/0 --for 5s
    """
    names, named_vm = _split_words(words)
    vm = named_vm or vm
    _check_names(names)
    trial = _count(names, look_s, vm)
    scene = trial.scene
    chosen = _chosen(scene, vm)
    found = {name: _events(trial.window, name, chosen) for name in names}
    if as_json:
        from ..view import jsonout

        body = {
            **jsonout.head(scene),
            "interval_s": trial.window.interval_s,
            "groups": [_group_json(scene, name, found[name], trial) for name in names],
            "gaps": jsonout.gaps(trial.window.current.gaps),
        }
        click.echo(jsonout.dump(body))
        return
    from .echo import echo_lines

    echo_lines(_try_lines(scene, trial, found, limit=None if show_all else EVENTS_SHOWN))


@dataclass(frozen=True)
class Ran:
    """How often the programs of a group ran, and how long that took in all."""

    events: int
    time_ns: int

    @property
    def ns_per_event(self) -> float | None:
        return self.time_ns / self.events if self.events else None


@dataclass(frozen=True)
class Trial:
    """A window in which groups counted."""

    scene: Scene
    window: Window
    ran: dict[str, Ran]


def _count(names: Sequence[str], look_s: float, vm: str | None) -> Trial:
    from ..collect import Host
    from ..sources.bpf import libbpf
    from ..sources.bpf.groups.loaded import LoadedGroup
    from ..sources.bpf.source import BpfSource
    from .session import read_windows

    source = BpfSource(names)
    with Host(source, {}) as host, libbpf.run_statistics():
        loaded = [group for group in source.groups if isinstance(group, LoadedGroup)]
        before = {group.name: group.ran() for group in loaded}
        ((current, window),) = read_windows(host, look_s, vm=vm, count=1)
        after = {group.name: group.ran() for group in loaded}
        ran = {name: Ran(after[name][0] - before[name][0], after[name][1] - before[name][1]) for name in after}
        return Trial(current, window, ran)


def _split_words(words: tuple[str, ...]) -> tuple[tuple[str, ...], str | None]:
    """The groups, and the VM that may follow them: a last word that is not, and is not like, the name of a group."""
    import difflib

    from ..catalog.groups import load_groups

    *before, last = words
    if before and not difflib.get_close_matches(last, list(load_groups()), n=1):
        return tuple(before), last
    return words, None


def _check_names(names: Sequence[str]) -> None:
    import difflib

    from ..catalog.groups import load_groups

    for name in names:
        if name not in load_groups():
            nearest = tuple(difflib.get_close_matches(name, list(load_groups()), n=2))
            raise UsageError(f"there is no group {name!r}; there are {', '.join(load_groups())}", nearest=nearest)


def _chosen(scene: Scene, text: str | None) -> Any:
    from ..view.subjects import find_subject

    return None if text is None else find_subject(scene, text)


def _events(window: Window, provider: str, chosen: Any) -> list[tuple[Scope, Event]]:
    """The events of a provider, for VMs or the one vCPU that was chosen."""
    from ..analysis.events import costliest
    from ..schema import Scope

    of_vcpu = chosen is not None and chosen.vcpu is not None
    found: list[tuple[Scope, Event]] = []
    for block in window.current.blocks:
        schema = block.schema
        if schema.provider != provider or (of_vcpu and schema.scope is Scope.VM):
            continue
        at = Scope.VCPU if of_vcpu else Scope.VM
        wanted = None if chosen is None else chosen.vcpu if of_vcpu else chosen.vm
        found += [(at, event) for event in costliest(window, schema, at=at) if wanted in (None, event.row)]
    return found


def _try_lines(scene: Scene, trial: Trial, found: dict[str, list[Any]], *, limit: int | None) -> Iterator[str]:
    from ..catalog.groups import load_groups
    from ..units import format_count, format_seconds
    from ..view.text import counted, gap_lines

    sample = scene.sample
    yield (
        f"{counted(len(sample.vms), 'VM')}, {counted(len(sample.vcpus), 'vCPU')} · "
        f"{format_seconds(trial.window.interval_s)} by {sample.source}"
    )
    for name, events in found.items():
        yield ""
        ran = trial.ran.get(name)
        cost = (
            f"; {format_count(ran.events)} runs of its programs, {ran.ns_per_event:.0f} ns each"
            if ran and ran.events
            else ""
        )
        yield f"{name}: {load_groups()[name].title}{cost}"
        if not events:
            yield f"  {_why_nothing(sample, name)}"
            continue
        yield from (f"  {line}" for line in _table(scene, events[:limit]))
        if limit is not None and len(events) > limit:
            yield f"  … and {len(events) - limit} more; --all shows them"
    yield from gap_lines(sample.gaps)


def _why_nothing(sample: Sample, name: str) -> str:
    """A group without a row has seen nothing; one without a block cannot tell."""
    if not len(sample.vms):
        return "no VM is running"
    if any(len(block.rows) for block in sample.blocks if block.schema.provider == name):
        return "nothing happened"
    reason = next((gap.reason for gap in sample.gaps if gap.provider == name), "nothing was read of it")
    return f"not known: {reason}"


def _table(scene: Scene, events: Sequence[tuple[Scope, Event]]) -> list[str]:
    from ..units import format_count, format_seconds
    from ..view.text import columns

    rows = [("VM", "EVENT", "PER SECOND", "TIME/s", "MEAN", "P50", "P99")]
    for scope, event in events:
        rows.append(
            (
                _subject(scene, scope, event.row),
                event.kind.count,
                format_count(event.per_s),
                format_seconds(event.s_per_s),
                format_seconds(event.mean_s),
                format_seconds(event.p50_s),
                format_seconds(event.p99_s),
            )
        )
    return columns(rows, right=(2, 3, 4, 5, 6))


def _subject(scene: Scene, scope: Scope, row: int) -> str:
    from ..schema import Scope

    if scope is Scope.VM:
        return scene.title(row, max_length=32)
    vcpus = scene.sample.vcpus
    return f"{scene.title(int(vcpus.vm[row]), max_length=32)}/{int(vcpus.id[row])}"


def _group_json(scene: Scene, name: str, events: Sequence[Any], trial: Trial) -> dict[str, Any]:
    ran = trial.ran.get(name)
    return {
        "name": name,
        "runs": ran.events if ran else None,
        "ns_per_run": ran.ns_per_event if ran else None,
        "events": [_event_json(scene, scope, event) for scope, event in events],
    }


def _event_json(scene: Scene, scope: Scope, event: Event) -> dict[str, Any]:
    from ..schema import Scope

    vcpus = scene.sample.vcpus
    vm = event.row if scope is Scope.VM else int(vcpus.vm[event.row])
    return {
        "vm": str(scene.sample.vms.vm_id(vm)),
        "vcpu": None if scope is Scope.VM else int(vcpus.id[event.row]),
        "event": event.kind.count,
        "per_s": event.per_s,
        "s_per_s": event.s_per_s,
        "mean_s": event.mean_s,
        "p50_s": event.p50_s,
        "p99_s": event.p99_s,
    }


def _mode(context: click.Context, param: click.Parameter, value: str | None) -> int | None:
    from .attach import parse_mode

    return None if value is None else parse_mode(context, param, value)


# --- pin --------------------------------------------------------------------------------------------------------------


@command.command("pin")
@click.argument("names", nargs=-1, required=True, metavar="GROUP…")
@click.option(
    "--readers",
    metavar="GROUP",
    help="The group of users who may read, by name or number; as it is if something is attached.",
)
@click.option("--mode", callback=_mode, metavar="MODE", help="Of the pinned files, as for chmod; likewise.")
def pin_command(*, names: tuple[str, ...], readers: str | None, mode: int | None) -> None:
    """Have the kernel count groups from now on, beside the attached iterator, for readers without root. Needs root.

    It costs what `kvmscope groups` says, at each event, until `kvmscope groups unpin`, `kvmscope detach` or the next
    boot. The iterator is attached as well if it is not.
    """
    import grp

    from ..sources.bpf import attach
    from .attach import DEFAULT_MODE, find_group, lines
    from .echo import echo_lines

    _check_pinnable(names)
    gid, mode_now = attach.access() or (find_group(None).gr_gid, DEFAULT_MODE)
    entry = find_group(readers) if readers else grp.getgrgid(gid)
    wanted = mode_now if mode is None else mode
    done = attach.attach(gid=entry.gr_gid, mode=wanted, groups=names)
    echo_lines(lines(done, entry, wanted))


@command.command("unpin")
@click.argument("names", nargs=-1, required=True, metavar="GROUP…")
def unpin_command(*, names: tuple[str, ...]) -> None:
    """Stop counting groups that were pinned; the iterator stays. Needs root."""
    from ..sources.bpf.attach import detach

    _check_pinnable(names)
    click.echo("no longer counted" if detach(groups=names) else "none of these was counting")


def _check_pinnable(names: Sequence[str]) -> None:
    from ..sources.bpf.groups import PLANS

    _check_names(names)
    for name in names:
        if name not in PLANS:
            what = "counts while a command runs" if name == "apicv" else "is always read by what is attached"
            raise UsageError(f"group {name} cannot be pinned: it {what}; those that can are {', '.join(PLANS)}")
