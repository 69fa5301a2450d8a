"""Facts that rules use and that are not statistics: ``analysis.observations`` over recordings, as relational scalars.

Facts that follow from a document (of a machine, or of a VM's identity) are evaluated here in Python by the code of the
live path, once for each document; the query contains the keys of the documents for which they hold. The other facts are
words and columns of the raw relations. ``catalog.findings.FACTS`` lists the facts; ``stats_reset`` needs every count of
KVM, so a query for it
reads them all.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from ..analysis import exit_reasons
from ..analysis.apicv.facts import INHIBIT, PROVIDER
from ..analysis.apicv.hosts import HOST_PROVIDER
from ..analysis.observations import (
    PAGE_COUNTS,
    STARTED_BY_NOW_S,
    halt_poll_limit_ns,
    is_by_setup,
    is_mmio_uncached,
    is_off,
)
from ..catalog.findings import FACTS
from ..formula.resolved import Quantity, ScopedStat, StatColumn
from ..formula.tree import Level
from ..host.apicv import host_apicv
from ..host.config.halting import hlt_exits_disabled
from ..host.facts import Machine
from ..scene import VmIdentity
from ..schema import Scope
from ..store.documents import DocumentReader
from .leaves import INTERVAL_S
from .lower import Lowering
from .relational import (
    Aggregate,
    Aggregation,
    Branching,
    Function,
    Literal,
    Null,
    OneOf,
    Ref,
    RowsSoFar,
    Scalar,
    apply,
    equal,
    every,
    is_known,
    when,
)
from .stat_columns import COUNTS
from .windows import WINDOW_ID

STATS_RESET: Final = "stats_reset"
EPOCH_ENDED: Final = "epoch_ended"
"""1 where the VM or one of its vCPUs existed when the window began and is in another epoch at its end, else 0."""
COUNT_FELL: Final = "count_fell"
"""1 where a count of KVM that the query reads anyway went down, else 0."""
FACT_NAMES: Final[frozenset[tuple[Level, str]]] = frozenset(FACTS) | {
    (Scope.VM, EPOCH_ENDED),
    (Scope.VM, COUNT_FELL),
}
"""The facts of the catalogue, and those by which a query over many hosts selects VMs for expensive rules."""
_YES, _NO = Literal(1.0), Literal(0.0)


@dataclass(frozen=True)
class DocumentFacts:
    """Facts from documents, by their keys. ``machines``: 1 where KVM was loaded without the interrupt acceleration that
    the host has, 0 where not; the host's halt polling limit; and 1 where KVM is known not to cache MMIO addresses.
    ``identities``: whether HLT exits are disabled."""

    apicv_off: Mapping[str, float] = field(default_factory=dict)
    halt_poll_ns: Mapping[str, int] = field(default_factory=dict)
    hlt_exits_disabled: Mapping[str, bool] = field(default_factory=dict)
    mmio_uncached: Mapping[str, float] = field(default_factory=dict)


def read_document_facts(machines: Iterable[str], identities: Iterable[str], reader: DocumentReader) -> DocumentFacts:
    """The known facts of these documents, by their keys. Raises RecordingError for a damaged document."""
    apicv_off: dict[str, float] = {}
    halt_poll_ns: dict[str, int] = {}
    uncached: dict[str, float] = {}
    for key in machines:
        machine: Machine = reader.get(Machine, key)
        off, limit_ns = is_off(host_apicv(machine)), halt_poll_limit_ns(machine)
        apicv_off |= {} if math.isnan(off) else {key: off}
        halt_poll_ns |= {} if limit_ns is None else {key: limit_ns}
        uncached |= {key: 1.0} if is_mmio_uncached(machine) else {}
    halting = {key: hlt_exits_disabled(reader.get(VmIdentity, key).process) for key in identities}
    disabled = {key: value for key, value in halting.items() if value is not None}
    return DocumentFacts(apicv_off, halt_poll_ns, disabled, uncached)


class RecordedFacts:
    """The facts of subjects in windows over recordings."""

    def __init__(self, documents: DocumentFacts) -> None:
        self._documents = documents

    def fact(self, name: str, level: Level, lowering: Lowering) -> Scalar:
        """A fact of each subject. KeyError if it is not one of ``FACT_NAMES``."""
        del level  # each fact exists at one level only
        return _FACTS[name](self, lowering)

    def vcpus(self, lowering: Lowering) -> Scalar:
        count = lowering.fold(Scope.VCPU, Scope.VM, Aggregate(Aggregation.COUNT, None))
        return apply(Function.TO_DOUBLE, apply(Function.COALESCE, count, Literal(0)))

    def stats_reset(self, lowering: Lowering) -> Scalar:
        """The number of KVM's counts that went down; a count of several vCPUs is counted once."""
        fell: list[Scalar] = []
        for column in _kvm_counts(lowering):
            scope = column.stat.scope
            flag = when(lowering.leaves[scope].fell(column), _YES, _NO)
            held = lowering.sheets[scope].hold(flag)
            is_of_vm = scope is Scope.VM
            fell.append(held if is_of_vm else lowering.fold(scope, Scope.VM, Aggregate(Aggregation.MAX, held)))
        total: Scalar = _NO
        for each in fell:
            total = apply(Function.ADD, total, apply(Function.COALESCE, each, _NO))
        return total

    def count_fell(self, lowering: Lowering) -> Scalar:
        """Whether ``stats_reset`` is not 0, judged by the counts in the relations."""
        fell = defaultdict[Scope, list[Scalar]](list)
        for column in _kvm_counts(lowering):
            fell[column.stat.scope].append(lowering.leaves[column.stat.scope].fell(column))
        return _of_vm_or_vcpus(lowering, {scope: _any(conditions) for scope, conditions in fell.items()})

    def epoch_ended(self, lowering: Lowering) -> Scalar:
        ended = apply(Function.NOT_EQUAL, Ref("epoch_before"), Ref("epoch_after"))
        return _of_vm_or_vcpus(lowering, dict.fromkeys(Scope, ended))

    def apicv_inhibited(self, lowering: Lowering) -> Scalar:
        known, disabled, by_setup = [], [], []
        for name, now in _inhibits(lowering):
            known.append(is_known(now))
            holds = _holds(now)
            if name == "disabled":
                disabled.append(holds)
            elif is_by_setup(name):
                by_setup.append(holds)
        stands_in_the_way = every(_any(by_setup), apply(Function.NOT, _any(disabled)))
        return when(_any(known), when(stands_in_the_way, _YES, _NO))

    def apicv_uninhibited(self, lowering: Lowering) -> Scalar:
        inhibits = [now for _, now in _inhibits(lowering)]
        return when(_any(map(is_known, inhibits)), when(_any(map(_holds, inhibits)), _NO, _YES))

    def apicv_off_on_host(self, lowering: Lowering) -> Scalar:
        """For a simulated VM, the state of the host that it pretends to run on."""
        amd, supported, on = (
            _now(lowering, HOST_PROVIDER, Scope.VM, name) for name in ("is_amd", "cpu_has_apicv", "switched_on")
        )
        pretended = when(
            is_known(amd),
            Branching(
                (
                    (apply(Function.OR, equal(supported, _NO), _holds(on)), _NO),
                    (every(_holds(supported), equal(on, _NO)), _YES),
                )
            ),
        )
        return when(Ref("simulated"), pretended, _by_key(Ref("machine"), self._documents.apicv_off))

    def hlt_exits_disabled(self, lowering: Lowering) -> Scalar:
        """By KVM's own setting, or by the VMM's command line if that setting was not read for any VM."""
        if ("settings", Scope.VM, "hlt_exits_disabled") in lowering.blocks.descriptors:
            return _now(lowering, "settings", Scope.VM, "hlt_exits_disabled")
        disabled = {key: float(holds) for key, holds in self._documents.hlt_exits_disabled.items()}
        return _by_key(lowering.leaves[Scope.VM].attribute("identity"), disabled)

    def mmio_uncached(self, lowering: Lowering) -> Scalar:
        del lowering
        uncached = _by_key(Ref("machine"), self._documents.mmio_uncached)
        return when(Ref("simulated"), _NO, apply(Function.COALESCE, uncached, _NO))

    def vmm_silent_s(self, lowering: Lowering) -> Scalar:
        leaves = lowering.leaves[Scope.VM]
        silent_s = apply(Function.COALESCE, leaves.attribute("silent_s"), _NO)
        return when(is_known(leaves.attribute("pid")), silent_s)

    def poll_limit(self, lowering: Lowering) -> Scalar:
        limits = {key: limit_ns / 1e9 for key, limit_ns in self._documents.halt_poll_ns.items()}
        by_host = when(Ref("simulated"), Null(), _by_key(Ref("machine"), limits))
        settings = [
            (("settings", Scope.VM, name) in lowering.blocks.descriptors)
            for name in ("halt_poll_cap_set", "halt_poll_cap_ns")
        ]
        if not all(settings):
            return by_host
        is_set = _now(lowering, "settings", Scope.VM, "halt_poll_cap_set")
        own_ns = _now(lowering, "settings", Scope.VM, "halt_poll_cap_ns")
        limit = when(_holds(is_set), apply(Function.DIVIDE, own_ns, Literal(1e9)), by_host)
        return when(every(is_known(is_set), is_known(own_ns)), limit)

    def poll_limit_known(self, lowering: Lowering) -> Scalar:
        limit = lowering.sheets[Scope.VM].hold(self.poll_limit(lowering))
        return when(is_known(limit), _YES, _NO)

    def never_ran(self, lowering: Lowering) -> Scalar:
        """NULL for a VM if one of its vCPUs has no known age: the others do not decide."""
        sheet = lowering.sheets[Scope.VCPU]
        exits, has_none = _exits(lowering)
        age_ns = sheet.hold(_age_ns(lowering.leaves[Scope.VCPU].attribute_of_vm("created_ns")))
        of_vm = RowsSoFar((Ref(WINDOW_ID), Ref("vm")), ())
        in_question = sheet.hold(equal(Aggregate(Aggregation.MAX, has_none, of_vm), Literal(1)))
        is_unknown = apply(Function.OR, apply(Function.IS_NULL, exits), every(in_question, _is_null(age_ns)))
        never = every(equal(has_none, Literal(1)), _is_old(age_ns))
        return Branching(((is_unknown, Null()), (never, _YES)), _NO)

    def total(self, name: str, lowering: Lowering) -> Scalar | None:
        """The sum of a fact of vCPUs for each VM. The number that never ran follows from counts, as all vCPUs have the
        VM's age."""
        if name != "never_ran":
            return None
        exits, has_none = _exits(lowering)
        known = when(is_known(exits), Literal(1))
        knowns = lowering.fold(Scope.VCPU, Scope.VM, Aggregate(Aggregation.SUM, known))
        nones = lowering.fold(Scope.VCPU, Scope.VM, Aggregate(Aggregation.SUM, has_none))
        age_ns = lowering.sheets[Scope.VM].hold(_age_ns(lowering.leaves[Scope.VM].attribute("created_ns")))
        is_unknown = apply(
            Function.OR, _is_null(knowns), every(apply(Function.MORE, nones, Literal(0)), _is_null(age_ns))
        )
        total = when(_is_old(age_ns), apply(Function.TO_DOUBLE, nones), _NO)
        return when(apply(Function.NOT, is_unknown), total)

    def injected_while_active(self, lowering: Lowering) -> Scalar:
        """Interrupts that KVM injected, per second, where APICv was active at both ends of the window, else 0."""
        found = _column(lowering, PROVIDER, Scope.VCPU, "apicv_active", Quantity.NOW)
        if found is None:
            return Null()
        leaves = lowering.leaves[Scope.VCPU]
        now, before = leaves.now(found), apply(Function.TO_DOUBLE, leaves.before(found))
        injections = _column(lowering, "kvm", Scope.VCPU, "irq_injections", Quantity.CHANGE)
        rate: Scalar = Null()
        if injections is not None:
            rate = apply(Function.DIVIDE, leaves.changes(injections)[0], INTERVAL_S)
        return when(every(is_known(now), is_known(before)), when(every(_holds(now), _holds(before)), rate, _NO))

    def mapped_growth(self, lowering: Lowering) -> Scalar:
        """Growth of the number of mapped pages per second."""
        leaves, growth = lowering.leaves[Scope.VM], None
        for name in PAGE_COUNTS:
            column = _column(lowering, "kvm", Scope.VM, name, Quantity.NOW)
            if column is None:
                return Null()
            before = apply(Function.TO_DOUBLE, apply(Function.SIGNED, leaves.before(column)))
            more = apply(Function.SUBTRACT, leaves.now(column), before)
            growth = more if growth is None else apply(Function.ADD, growth, more)
        return Null() if growth is None else apply(Function.DIVIDE, growth, INTERVAL_S)

    def costliest_exit(self, lowering: Lowering) -> Scalar:
        """The share of a vCPU's time taken by its costliest exit reason; NULL where none is known."""
        leaves, costliest = lowering.leaves[Scope.VCPU], None
        for (provider, scope, name), descriptor in lowering.blocks.descriptors.items():
            if (provider, scope) != (exit_reasons.PROVIDER, Scope.VCPU) or exit_reasons.judged_reason(name) is None:
                continue
            column = StatColumn(ScopedStat(provider, scope, name), Quantity.CHANGE, descriptor)
            moved = lowering.sheets[scope].hold(leaves.changes(column)[0])
            costliest = moved if costliest is None else lowering.sheets[scope].hold(_larger(costliest, moved))
        if costliest is None:
            return Null()
        return apply(Function.DIVIDE, apply(Function.DIVIDE, costliest, Literal(1e9)), INTERVAL_S)


def _larger(left: Scalar, right: Scalar) -> Scalar:
    """The larger of two numbers; if one is NULL, the other."""
    is_right = apply(Function.OR, apply(Function.IS_NULL, left), apply(Function.MORE, right, left))
    return when(apply(Function.COALESCE, is_right, equal(Literal(1), Literal(0))), right, left)


def _column(lowering: Lowering, provider: str, scope: Scope, name: str, quantity: Quantity) -> StatColumn | None:
    """The column of a stat, None if these scenes lack it."""
    descriptor = lowering.blocks.descriptors.get((provider, scope, name))
    return None if descriptor is None else StatColumn(ScopedStat(provider, scope, name), quantity, descriptor)


def _now(lowering: Lowering, provider: str, scope: Scope, name: str) -> Scalar:
    """The word of a stat at the end of the window, as a number; NULL for a subject without the stat."""
    column = _column(lowering, provider, scope, name, Quantity.NOW)
    return Null() if column is None else lowering.leaves[scope].now(column)


def _exits(lowering: Lowering) -> tuple[Scalar, Scalar]:
    """The exit count of each vCPU, and 1 where that is known to be 0."""
    name = "exits" if ("kvm", Scope.VCPU, "exits") in lowering.blocks.descriptors else "sum_exits"
    exits = _now(lowering, "kvm", Scope.VCPU, name)
    return exits, lowering.sheets[Scope.VCPU].hold(when(equal(exits, _NO), Literal(1), Literal(0)))


def _age_ns(created_ns: Scalar) -> Scalar:
    return apply(Function.SUBTRACT, apply(Function.EPOCH_NS, Ref("end_time")), created_ns)


def _is_old(age_ns: Scalar) -> Scalar:
    return apply(Function.MORE_OR_EQUAL, age_ns, Literal(int(STARTED_BY_NOW_S * 1e9)))


def _is_null(scalar: Scalar) -> Scalar:
    return apply(Function.IS_NULL, scalar)


def _inhibits(lowering: Lowering) -> Iterable[tuple[str, Scalar]]:
    """The inhibit reasons of this kernel, each with whether it holds."""
    for (provider, scope, name), descriptor in lowering.blocks.descriptors.items():
        if provider == PROVIDER and scope is Scope.VM and name.startswith(INHIBIT) and descriptor.is_boolean:
            yield name.removeprefix(INHIBIT), _now(lowering, provider, scope, name)


def _of_vm_or_vcpus(lowering: Lowering, conditions: Mapping[Scope, Scalar]) -> Scalar:
    """Whether the condition for its scope holds for the VM or for one of its vCPUs."""
    flags = {scope: lowering.sheets[scope].hold(when(holds, _YES, _NO)) for scope, holds in conditions.items()}
    if Scope.VCPU in flags:
        flags[Scope.VCPU] = lowering.fold(Scope.VCPU, Scope.VM, Aggregate(Aggregation.MAX, flags[Scope.VCPU]))
    return when(_any(equal(flag, _YES) for flag in flags.values()), _YES, _NO)


def _kvm_counts(lowering: Lowering) -> Iterable[StatColumn]:
    for (provider, scope, name), descriptor in lowering.blocks.descriptors.items():
        if provider == "kvm" and descriptor.kind in COUNTS:
            yield StatColumn(ScopedStat(provider, scope, name), Quantity.CHANGE, descriptor)


def _holds(flag: Scalar) -> Scalar:
    """Whether a boolean stat is known and not 0."""
    return apply(Function.COALESCE, apply(Function.NOT_EQUAL, flag, _NO), equal(Literal(1), Literal(0)))


def _any(conditions: Iterable[Scalar]) -> Scalar:
    whole: Scalar | None = None
    for condition in conditions:
        whole = condition if whole is None else apply(Function.OR, whole, condition)
    return equal(Literal(1), Literal(0)) if whole is None else whole


def _by_key(key: Scalar, values: Mapping[str, float]) -> Scalar:
    """The value of the document with this key; NULL for an unlisted key."""
    keys: dict[float, list[str]] = {}
    for each, value in values.items():
        keys.setdefault(value, []).append(each)
    if not keys:
        return Null()
    return Branching(tuple((OneOf(key, tuple(those)), Literal(value)) for value, those in keys.items()))


_FACTS: Final[Mapping[str, Callable[[RecordedFacts, Lowering], Scalar]]] = {
    "vcpus": RecordedFacts.vcpus,
    STATS_RESET: RecordedFacts.stats_reset,
    COUNT_FELL: RecordedFacts.count_fell,
    EPOCH_ENDED: RecordedFacts.epoch_ended,
    "apicv_inhibited": RecordedFacts.apicv_inhibited,
    "apicv_off_on_host": RecordedFacts.apicv_off_on_host,
    "apicv_uninhibited": RecordedFacts.apicv_uninhibited,
    "hlt_exits_disabled": RecordedFacts.hlt_exits_disabled,
    "mmio_uncached": RecordedFacts.mmio_uncached,
    "vmm_silent_s": RecordedFacts.vmm_silent_s,
    "poll_limit": RecordedFacts.poll_limit,
    "poll_limit_known": RecordedFacts.poll_limit_known,
    "never_ran": RecordedFacts.never_ran,
    "injected_while_active": RecordedFacts.injected_while_active,
    "mapped_growth": RecordedFacts.mapped_growth,
    "costliest_exit": RecordedFacts.costliest_exit,
}
