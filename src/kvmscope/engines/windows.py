"""Windows as relations: the first and last scene of each, for each boot of each host.

As in ``analysis.window.Window``, a window is two scenes of one origin and source, and its subjects are those of the
later scene. ``WindowPlan`` chooses the scenes: all consecutive ones, or the first in each period of CLOCK_BOOTTIME, as
thinning keeps them. The scene between two windows belongs to both, so no increase is lost. The last window ends with
the last scene. ``scenes``: number of scenes in a window, both ends included.
Rule: relations of scenes are small (a row for each scene), those of subjects large, so all work that needs an order is
done here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from .columns import BlockSet
from .relational import (
    Aggregate,
    Aggregation,
    Function,
    Joined,
    Literal,
    Named,
    NamedScalar,
    OneOf,
    Ref,
    RelationSource,
    RowsSoFar,
    Scalar,
    Select,
    UnionAll,
    add,
    apply,
    equal,
    every,
    is_known,
    when,
)
from .tables import RAW, RawTable

SERIES: Final = ("host", "boot", "source", "simulated")
"""The key of a series of windows: one source on one boot of one host."""

WINDOW: Final = (*SERIES, "window")
"""The key of a window: its series, and its number in it from 1."""

WINDOW_ID: Final = "window_id"
"""A number for each window of a query. Rows of subjects are joined and grouped by it, since WINDOW has strings."""


@dataclass(frozen=True, slots=True)
class WindowPlan:
    """Which windows to form. ``every_s``: their length in seconds of CLOCK_BOOTTIME; None: from each scene to the next.

    ``schema``: of the raw relations.
    ``hosts``: the hosts to read, None for all. A large fleet is read in parts to bound memory.
    """

    every_s: int | None = None
    hosts: tuple[str, ...] | None = None
    schema: str = RAW


def scene_steps(plan: WindowPlan) -> tuple[Named, ...]:
    """Every window of every series, whatever blocks its scenes have."""
    return (
        Named("moments", _moments(plan)),
        Named("slots", _slots()),
        Named("numbered", _numbered()),
        Named("last_scenes", _last_scenes()),
        Named("paired", _paired()),
    )


def window_steps(block_sets: Sequence[BlockSet]) -> tuple[Named, ...]:
    """``windows`` (WINDOW_ID, WINDOW, ``begin_ns``, ``end_ns``, ``begin_time``, ``end_time``, ``slot``, ``scenes``,
    ``interval_s``, ``machine``, ``blocks``) that end with a scene of these blocks."""
    return (Named("windows", _windows(block_sets)),)


def inner_moments() -> Named:
    """``inner_moments``: the scenes of each window, both ends included: those of its slot, and the next one."""
    windows, moments = RelationSource("windows", "w"), RelationSource("moments", "m")
    columns = (*kept("w", WINDOW_ID, "host", "boot"), *kept("m", "boottime_ns"))
    at_end = equal(Ref("end_ns", "w"), Ref("boottime_ns", "m"))
    of_slot = Select(columns, windows, joins=(Joined(moments, same("w", "m", *SERIES, "slot")),))
    of_next = Select(
        columns,
        windows,
        joins=(Joined(moments, every(same("w", "m", *SERIES), at_end)),),
        where=apply(Function.NOT_EQUAL, Ref("slot", "w"), Ref("slot", "m")),
    )
    return Named("inner_moments", UnionAll((of_slot, of_next)))


def of(alias: str, *names: str) -> tuple[Ref, ...]:
    return tuple(Ref(name, alias) for name in names)


def kept(alias: str, *names: str) -> tuple[NamedScalar, ...]:
    """Columns of a relation under their own names."""
    return tuple(NamedScalar(name, Ref(name, alias)) for name in names)


def same(left: str, right: str, *names: str) -> Scalar:
    """Whether the columns with these names are equal in two relations."""
    return every(*(equal(Ref(name, left), Ref(name, right)) for name in names))


def boot_of(alias: str) -> Scalar:
    """The boot, "" where unknown: NULL would match nothing in a join."""
    return apply(Function.COALESCE, Ref("boot", alias), Literal(""))


def _moments(plan: WindowPlan) -> Select:
    source = Ref("source", "s")
    boottime = Ref("boottime_ns", "s")
    slot: Scalar = boottime
    if plan.every_s is not None:
        slot = apply(Function.WHOLE_DIVIDE, boottime, Literal(plan.every_s * 10**9))
    return Select(
        (
            NamedScalar("host", Ref("host", "s")),
            NamedScalar("boot", boot_of("s")),
            NamedScalar("source", when(equal(source, Literal("pinned")), Literal("bpf"), source)),
            NamedScalar("simulated", Ref("simulated", "s")),
            NamedScalar("boottime_ns", boottime),
            NamedScalar("time", Ref("time", "s")),
            NamedScalar("slot", slot),
            NamedScalar("blocks", apply(Function.JOIN_TEXTS, Ref("blocks", "s"))),
            NamedScalar("machine", Ref("machine", "s")),
        ),
        RelationSource(RawTable.SCENES.value, "s", plan.schema),
        where=None if plan.hosts is None else OneOf(Ref("host", "s"), plan.hosts),
    )


def _slots() -> Select:
    """The time of the first scene of each slot, and the number of scenes."""
    first = Aggregate(Aggregation.MIN, Ref("boottime_ns", "m"))
    return Select(
        (
            *kept("m", *SERIES, "slot"),
            NamedScalar("begin_ns", first),
            NamedScalar("scenes", Aggregate(Aggregation.COUNT, None)),
        ),
        RelationSource("moments", "m"),
        group_by=of("m", *SERIES, "slot"),
    )


def _numbered() -> Select:
    """The slots numbered within their series."""
    place = Aggregate(Aggregation.COUNT, None, RowsSoFar(of("s", *SERIES), of("s", "begin_ns")))
    return Select(
        (*kept("s", *SERIES, "slot", "begin_ns", "scenes"), NamedScalar("window", place)), RelationSource("slots", "s")
    )


def _last_scenes() -> Select:
    last = Aggregate(Aggregation.MAX, Ref("boottime_ns", "m"))
    return Select(
        (*kept("m", *SERIES), NamedScalar("last_ns", last)), RelationSource("moments", "m"), group_by=of("m", *SERIES)
    )


def _paired() -> Select:
    """Each slot with the start of the next one; the last slot with the last scene."""
    next_ns, scenes = Ref("begin_ns", "b"), Ref("scenes", "a")
    follows = equal(Ref("window", "b"), add(Ref("window", "a"), Literal(1)))
    return Select(
        (
            *kept("a", *WINDOW, "slot", "begin_ns"),
            NamedScalar("end_ns", apply(Function.COALESCE, next_ns, Ref("last_ns", "l"))),
            NamedScalar("scenes", when(is_known(next_ns), add(scenes, Literal(1)), scenes)),
        ),
        RelationSource("numbered", "a"),
        joins=(
            Joined(RelationSource("last_scenes", "l"), same("a", "l", *SERIES)),
            Joined(RelationSource("numbered", "b"), every(same("a", "b", *SERIES), follows), keeps_all=True),
        ),
    )


def _windows(block_sets: Sequence[BlockSet]) -> Select:
    """The windows that end with a scene of these blocks."""
    begin, end = Ref("begin_ns", "p"), Ref("end_ns", "p")
    lasts = apply(Function.TO_DOUBLE, apply(Function.SUBTRACT, end, begin))
    place = Aggregate(Aggregation.COUNT, None, RowsSoFar((), of("p", *WINDOW)))
    return Select(
        (
            NamedScalar(WINDOW_ID, place),
            *kept("p", *WINDOW, "slot", "begin_ns", "end_ns", "scenes"),
            NamedScalar("begin_time", Ref("time", "b")),
            NamedScalar("end_time", Ref("time", "e")),
            NamedScalar("interval_s", apply(Function.DIVIDE, lasts, Literal(1e9))),
            NamedScalar("machine", Ref("machine", "e")),
            NamedScalar("blocks", Ref("blocks", "e")),
        ),
        RelationSource("paired", "p"),
        joins=(_moment("b", begin), _moment("e", end)),
        where=every(
            apply(Function.MORE, end, begin), OneOf(Ref("blocks", "e"), tuple(each.text for each in block_sets))
        ),
    )


def _moment(alias: str, boottime_ns: Scalar) -> Joined:
    at_it = every(same("p", alias, *SERIES), equal(boottime_ns, Ref("boottime_ns", alias)))
    return Joined(RelationSource("moments", alias), at_it)
