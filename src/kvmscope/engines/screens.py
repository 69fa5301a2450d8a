"""Rules that are expensive to evaluate over a whole fleet: a cheap pre-condition for all hosts, then the rule for the
VMs that meet it.

Rules are expensive if they read the buckets of a histogram (a vCPU has dozens) or compare every count. For all hosts,
only a necessary condition of such a rule is evaluated (``formula.necessary``). The rule itself is evaluated for the VMs
that meet this condition in any window, over all their windows.

A rule fires for a VM only if it holds for it in some window. So no finding is lost: where the rule holds, its necessary
condition holds too. A VM is judged by its own rows, which are read for all its windows, so each finding is the same as
without screening.

A count that falls begins an epoch, so ``epoch_ended`` is necessary for ``stats_reset``. Counts that other rules read
are checked first: where one of them fell, the rule holds. A VM for which this decides every window in which an epoch
ended is not evaluated again.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ..catalog.findings import Rule
from ..formula.check import CONDITION, Formula
from ..formula.necessary import necessary
from ..formula.tree import Compare, Comparison, Expression, FactTerm, Number, StatName, walk
from ..schema import Scope
from .facts import COUNT_FELL, EPOCH_ENDED, STATS_RESET
from .thinning import histograms_of

Row = Mapping[str, Any]
Suspects = Mapping[str, frozenset[int]]
"""Ids of VMs by host."""
_Vm = tuple[str, int]
_Window = tuple[str, str, bool, int]


@dataclass(frozen=True, slots=True)
class Screen:
    """An expensive rule. ``may``: a weaker rule that holds wherever this rule holds. ``surely``: a rule of the same
    slug that holds only where this rule holds, or None."""

    rule: Rule
    may: Rule
    surely: Rule | None = None


class ScreenedRules:
    """The rules of a query. ``first``: rules to evaluate for all hosts. ``screens``: the expensive rules."""

    def __init__(self, rules: Sequence[Rule], metrics: Mapping[str, Formula], histograms: frozenset[StatName]) -> None:
        """``histograms``: the statistics in the recordings that are histograms."""
        self._metrics = metrics
        self._histograms = histograms
        screens = {rule.slug: screen for rule in rules if (screen := self._screen(rule)) is not None}
        self.screens: Sequence[Screen] = tuple(screens.values())
        self._may: dict[str, dict[_Vm, set[_Window]]] = {screen.may.slug: defaultdict(set) for screen in self.screens}
        self._surely: dict[str, dict[_Vm, list[Row]]] = {
            screen.rule.slug: defaultdict(list) for screen in self.screens if screen.surely
        }
        plain = (rule for rule in rules if rule.slug not in screens)
        self.first: Sequence[Rule] = (
            *plain,
            *(screen.may for screen in self.screens),
            *(screen.surely for screen in self.screens if screen.surely),
        )

    def sift(self, rows: Iterable[Row]) -> Iterator[Row]:
        """The windows in which rules fire, from the rows of ``first``. Rows of pre-conditions are kept for later."""
        for row in rows:
            slug, vm = row["rule"], (row["host"], row["vm"])
            if slug in self._may:
                self._may[slug][vm].add(_window(row))
            elif slug in self._surely:
                self._surely[slug][vm].append(row)
            else:
                yield row

    def decided(self) -> Iterator[Row]:
        """The windows in which expensive rules fire, as far as already decided. Call after ``sift``."""
        for screen in self.screens:
            suspects = self._suspects(screen)
            for vm, rows in self._surely.get(screen.rule.slug, {}).items():
                if vm not in suspects:
                    yield from rows

    def second(self) -> Iterator[tuple[Sequence[Rule], Suspects]]:
        """The rules still to evaluate with their VMs; rules that read the same histograms go together. Call after
        ``sift``."""
        for screens in _grouped(self.screens, lambda screen: self._reads(screen.rule)):
            found = defaultdict[str, set[int]](set)
            for screen in screens:
                for host, vm in self._suspects(screen):
                    found[host].add(vm)
            if found:
                yield [screen.rule for screen in screens], {host: frozenset(vms) for host, vms in found.items()}

    def _suspects(self, screen: Screen) -> set[_Vm]:
        surely = self._surely.get(screen.rule.slug, {})
        return {
            vm
            for vm, windows in self._may[screen.may.slug].items()
            if not windows <= {_window(row) for row in surely.get(vm, ())}
        }

    # --- which rules are expensive ------------------------------------------------------------------------------------

    def _screen(self, rule: Rule) -> Screen | None:
        """None if the rule is not expensive, or has no necessary condition that is cheaper."""
        if _is_of_resets(rule):
            return Screen(rule, _weaker(rule, [_fact(EPOCH_ENDED)]), replace(rule, when=_fact(COUNT_FELL)))
        if asks_for_every_count(rule) or not self._reads(rule):
            return None
        found = [
            replace(condition, expression=expression)
            for condition in rule.conditions
            if (expression := necessary(condition.expression, self._is_costly, metrics=self._metrics)) is not None
        ]
        return Screen(rule, _weaker(rule, found)) if found else None

    def _reads(self, rule: Rule) -> Hashable:
        """The histograms whose buckets a rule reads."""
        return frozenset(name for formula in rule.formulas for name in self._buckets(formula.expression))

    def _is_costly(self, expression: Expression) -> bool:
        return any(True for _ in self._buckets(expression))

    def _buckets(self, expression: Expression) -> Iterator[StatName]:
        return histograms_of(expression, self._metrics, self._histograms)


def asks_for_every_count(rule: Rule) -> bool:
    """Whether a rule compares every count of KVM."""
    return any(
        isinstance(part, FactTerm) and part.name == STATS_RESET
        for formula in rule.formulas
        for part, _ in walk(formula.expression, formula.scope)
    )


def _is_of_resets(rule: Rule) -> bool:
    """Whether the only condition of a rule is that some count fell."""
    return rule.when.expression == _at_least_one(STATS_RESET) and rule.activity is None and rule.clears is None


def _at_least_one(fact: str) -> Expression:
    return Compare(Comparison.MORE_OR_EQUAL, FactTerm(fact), Number(1.0))


def _fact(name: str) -> Formula:
    return Formula(_at_least_one(name), Scope.VM, CONDITION)


def _weaker(rule: Rule, conditions: Sequence[Formula]) -> Rule:
    """One or two conditions as a rule that fires after a single window and gives no costs. Its slug is not in the
    catalogue."""
    activity = conditions[0] if len(conditions) > 1 else None
    bare = replace(rule, slug=f"may be {rule.slug}", clears=None, windows=1, cost=None, lost=None, evidence=())
    return replace(bare, activity=activity, when=conditions[-1])


def _window(row: Row) -> _Window:
    return row["boot"], row["source"], row["simulated"], row["window"]


def _grouped(screens: Iterable[Screen], key: Callable[[Screen], Hashable]) -> Iterable[Sequence[Screen]]:
    """The screens, grouped by key."""
    groups = defaultdict[Hashable, list[Screen]](list)
    for screen in screens:
        groups[key(screen)].append(screen)
    return groups.values()
