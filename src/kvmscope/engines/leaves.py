"""The inputs of formulas for each subject and window: words at both ends, and the increase of counts.

The increase of a count is its last word minus its first, if that is not negative. If the subject began another epoch
within a window of more than two scenes, the increase is the sum of the increases within each epoch; the raw rows
between the ends are read for these subjects only (``torn``). As in ``analysis.window``, an increase is known if the
subject has the stat at both ends; for a histogram, all buckets are known or none.
"""

from __future__ import annotations

from typing import Final

from ..formula.resolved import StatColumn
from ..schema import Kind, Scope
from .columns import ROW, BlockSet
from .relational import (
    Aggregate,
    Aggregation,
    Function,
    Joined,
    Literal,
    Named,
    NamedScalar,
    Ref,
    RelationSource,
    Scalar,
    Select,
    apply,
    equal,
    every,
    when,
)
from .sheet import Sheet
from .tables import SUBJECT_KEY, SUBJECTS
from .windows import WINDOW, WINDOW_ID, WindowPlan, boot_of, kept, of, same

INTERVAL_S = Ref("interval_s")
OF_WINDOW: Final = ("interval_s", "scenes", "begin_ns", "end_ns", "begin_time", "end_time", "machine", "blocks")
"""The columns of the window in each subject's row, besides the key."""


class SubjectLeaves:
    """The words that formulas read of the subjects of one scope, as columns of a sheet."""

    def __init__(self, scope: Scope, blocks: BlockSet, plan: WindowPlan, sheet: Sheet) -> None:
        self.key = (WINDOW_ID, *SUBJECT_KEY[scope])
        self._scope = scope
        self._blocks = blocks
        self._is_pairs = plan.every_s is None
        self._schema = plan.schema
        self._sheet = sheet
        self._words: dict[Scalar, int] = {}
        self._counts: dict[int, None] = {}
        self._attributes: dict[str, None] = {}
        self._attributes_of_vm: dict[str, None] = {}

    def now(self, column: StatColumn) -> Scalar:
        """The word at the end of the window, as a number in the unit of the stat."""
        (word,) = self._blocks.words(column.stat, column.descriptor)
        after = Ref(f"after_{self._place(word)}")
        signed = apply(Function.SIGNED, after) if column.descriptor.kind is Kind.INSTANT else after
        return self._sheet.hold(apply(Function.TO_DOUBLE, signed))

    def before(self, column: StatColumn) -> Scalar:
        """The word at the beginning of the window."""
        (word,) = self._blocks.words(column.stat, column.descriptor)
        return Ref(f"before_{self._place(word)}")

    def changes(self, column: StatColumn) -> tuple[Scalar, ...]:
        """The increase of each word of a count; NULL where unknown."""
        places = [self._place(word) for word in self._blocks.words(column.stat, column.descriptor)]
        self._counts.update(dict.fromkeys(places))
        rises = self._sheet.hold(every(*map(_rises, places)))
        return tuple(self._sheet.hold(self._change(place, rises)) for place in places)

    def fell(self, column: StatColumn) -> Scalar:
        """Whether a count, or any bucket of it, is lower at the end of the window than at its beginning."""
        places = [self._place(word) for word in self._blocks.words(column.stat, column.descriptor)]
        return apply(Function.NOT, every(*map(_rises, places)))

    def attribute_of_vm(self, name: str) -> Ref:
        """A column of the raw relation for the VM of a vCPU, at the end of the window."""
        self._attributes_of_vm[name] = None
        return Ref(f"vm_{name}")

    def attribute(self, name: str) -> Ref:
        """A column of the raw relation for the subject at the end of the window, other than statistics."""
        self._attributes[name] = None
        return Ref(f"now_{name}")

    def _place(self, word: Scalar) -> int:
        return self._words.setdefault(word, len(self._words))

    def _change(self, place: int, rises: Scalar) -> Scalar:
        after, before = Ref(f"after_{place}"), Ref(f"before_{place}")
        grown = apply(Function.TO_DOUBLE, apply(Function.SUBTRACT, after, before))
        if self._is_pairs:
            return when(rises, grown)
        is_whole = self._sheet.hold(apply(Function.OR, _is_same_epoch(""), equal(Ref("scenes"), Literal(2))))
        return when(is_whole, when(rises, grown), Ref(f"torn_{place}"))

    # --- the relations ------------------------------------------------------------------------------------------------

    @property
    def reads_between(self) -> bool:
        """Whether raw rows between the ends of windows may be needed."""
        return bool(self._counts) and not self._is_pairs

    def steps(self) -> tuple[Named, ...]:
        """The relations up to the one that ``base`` reads."""
        ends = (Named(self._named("begins"), self._begins()), Named(self._named("ends"), self._ends()))
        if not self.reads_between:
            return ends
        return (
            *ends,
            Named(self._named("torn"), self._torn()),
            Named(self._named("stretches"), self._stretches()),
            Named(self._named("regrown"), self._regrown()),
        )

    def base(self, joins: tuple[Joined, ...] = (), columns: tuple[NamedScalar, ...] = ()) -> Select:
        """A row for each subject at the end of each window. ``joins``: relations joined to it (alias ``s``), which give
        ``columns``."""
        own = kept("w", *WINDOW, *OF_WINDOW)
        torn: tuple[NamedScalar, ...] = ()
        joined = [Joined(RelationSource("windows", "w"), same("s", "w", WINDOW_ID))]
        if self.reads_between:
            torn = kept("t", *(f"torn_{place}" for place in self._counts))
            joined.append(
                Joined(RelationSource(self._named("regrown"), "t"), same("s", "t", *self.key), keeps_all=True)
            )
        ends = kept("s", *(column.name for column in self._ends().columns))
        return Select((*ends, *own, *torn, *columns), RelationSource(self._named("ends"), "s"), joins=(*joined, *joins))

    def _named(self, what: str) -> str:
        return f"{self._scope.value}_{what}"

    def _raw(self, scope: Scope, alias: str) -> RelationSource:
        return RelationSource(SUBJECTS[scope].value, alias, self._schema)

    @property
    def _subject(self) -> tuple[str, ...]:
        return SUBJECT_KEY[self._scope]

    def _begins(self) -> Select:
        """The words of each subject at the beginning of each window."""
        return Select(
            (
                *kept("w", WINDOW_ID),
                *kept(ROW, *self._subject),
                NamedScalar("epoch_before", Ref("epoch", ROW)),
                *(NamedScalar(f"before_{place}", word) for word, place in self._words.items()),
            ),
            self._raw(self._scope, ROW),
            joins=(_windows_at("begin_ns"),),
        )

    def _ends(self) -> Select:
        """The words of each subject at the end of each window, and at its beginning if it existed then."""
        joins = [_windows_at("end_ns")]
        of_vm: tuple[NamedScalar, ...] = ()
        if self._attributes_of_vm:
            joins.append(self._owners())
            of_vm = tuple(NamedScalar(f"vm_{name}", Ref(name, "o")) for name in self._attributes_of_vm)
        begins = RelationSource(self._named("begins"), "b")
        is_it = every(same("w", "b", WINDOW_ID), same(ROW, "b", *self._subject))
        return Select(
            (
                *kept("w", WINDOW_ID),
                *kept(ROW, *self._subject),
                NamedScalar("epoch_after", Ref("epoch", ROW)),
                *(NamedScalar(f"after_{place}", word) for word, place in self._words.items()),
                *(NamedScalar(f"now_{name}", Ref(name, ROW)) for name in self._attributes),
                *of_vm,
                *kept("b", "epoch_before", *(f"before_{place}" for place in self._words.values())),
            ),
            self._raw(self._scope, ROW),
            joins=(*joins, Joined(begins, is_it, keeps_all=True)),
        )

    def _owners(self) -> Joined:
        """The VMs of the vCPUs in the same scene."""
        same_boot = equal(boot_of(ROW), boot_of("o"))
        is_it = every(same(ROW, "o", "host", "boottime_ns", "vm"), same_boot)
        return Joined(self._raw(Scope.VM, "o"), is_it, keeps_all=True)

    def _torn(self) -> Select:
        """The subjects that began another epoch in a window of more than two scenes, or appeared in it."""
        return Select(
            kept("s", *self.key),
            RelationSource(self._named("ends"), "s"),
            joins=(Joined(RelationSource("windows", "w"), same("s", "w", WINDOW_ID)),),
            where=every(apply(Function.NOT, _is_same_epoch("s")), apply(Function.MORE, Ref("scenes", "w"), Literal(2))),
        )

    def _stretches(self) -> Select:
        """The increases of the counts of torn subjects in each epoch."""
        keys = (*of("t", *self.key), Ref("epoch", ROW))
        words = list(self._words)
        is_torn = every(same("w", "t", WINDOW_ID), same(ROW, "t", *self._subject))
        return Select(
            (
                *kept("t", *self.key),
                *(NamedScalar(f"torn_{place}", _grown(words[place])) for place in self._counts),
            ),
            self._raw(self._scope, ROW),
            joins=(
                Joined(RelationSource("inner_moments", "w"), _at_scene("boottime_ns")),
                Joined(RelationSource(self._named("torn"), "t"), is_torn),
            ),
            group_by=keys,
        )

    def _regrown(self) -> Select:
        sums = (
            NamedScalar(f"torn_{place}", Aggregate(Aggregation.SUM, Ref(f"torn_{place}", "g")))
            for place in self._counts
        )
        return Select(
            (*kept("g", *self.key), *sums), RelationSource(self._named("stretches"), "g"), group_by=of("g", *self.key)
        )


def _is_same_epoch(alias: str) -> Scalar:
    """Whether the epoch is that of the beginning; false for a subject that did not exist then."""
    goes_on = equal(Ref("epoch_after", alias), Ref("epoch_before", alias))
    return equal(when(goes_on, Literal(1), Literal(0)), Literal(1))


def _rises(place: int) -> Scalar:
    return apply(Function.MORE_OR_EQUAL, Ref(f"after_{place}"), Ref(f"before_{place}"))


def _grown(word: Scalar) -> Scalar:
    """The increase over the rows of one epoch: a count only goes up in it, so its last word is the largest."""
    first, last = Aggregate(Aggregation.MIN, word), Aggregate(Aggregation.MAX, word)
    has_two = apply(Function.MORE, Aggregate(Aggregation.COUNT, word), Literal(1))
    return when(has_two, apply(Function.TO_DOUBLE, apply(Function.SUBTRACT, last, first)))


def _windows_at(border: str) -> Joined:
    """A join to the windows that begin, or end, at a raw row's scene."""
    return Joined(RelationSource("windows", "w"), _at_scene(border))


def _at_scene(moment: str) -> Scalar:
    """Whether a raw row belongs to the scene that the relation ``w`` names."""
    return every(
        same(ROW, "w", "host"),
        equal(Ref("boottime_ns", ROW), Ref(moment, "w")),
        equal(boot_of(ROW), Ref("boot", "w")),
    )
