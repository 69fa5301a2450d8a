"""Limits of the memory that stats may take, and the list of costs in the error if one is exceeded.

A budget counts bytes of data, which each vCPU takes again. Declarations determine them, so a budget can be exceeded
only when stats are declared or published, never later.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..schema import Descriptor, Scope
from .statset import StatSet

_LINES = 12


@dataclass(frozen=True, slots=True)
class Budget:
    """Bytes of data that all stats of one VM, and all stats of one of its vCPUs, may take; None means unlimited."""

    vm: int | None = None
    vcpu: int | None = None

    def of(self, scope: Scope) -> int | None:
        return self.vm if scope is Scope.VM else self.vcpu


def check_budget(stat_sets: Sequence[StatSet], limit: int | None) -> None:
    """Raises ValueError, with the cost of each stat, if these stats of one subject take more than ``limit`` bytes."""
    size = sum(stat_set.data_size for stat_set in stat_sets)
    if limit is None or size <= limit:
        return
    subject = {Scope.VM: "VM", Scope.VCPU: "vCPU"}[stat_sets[-1].scope]
    lines = [f"  {size:>7,}  {what}" for size, what in _largest(stat_sets)]
    raise ValueError("\n".join([f"{size:,} bytes of stats for each {subject}, where {limit:,} may be:", *lines]))


def _largest(stat_sets: Sequence[StatSet]) -> list[tuple[int, str]]:
    """Bytes and name of each stat, the largest first. Bits of a group share one line, and so do the smallest stats."""
    costs: dict[str, int] = {}
    bits: dict[tuple[str, int], list[str]] = {}
    for stat_set in stat_sets:
        for stat in stat_set.descriptors:
            if stat.bit is None:
                costs[_name(stat_set, stat)] = 8 * stat.size
            else:
                bits.setdefault((_group(stat_set, stat), stat.offset), []).append(f"{stat_set.provider}.{stat.name}")
    for (group, _), names in bits.items():
        costs[f"{names[0]}{group} and {len(names) - 1} other bits" if len(names) > 1 else names[0] + group] = 8
    ordered = sorted(((size, name) for name, size in costs.items()), key=lambda one: -one[0])
    if len(ordered) <= _LINES:
        return ordered
    rest = ordered[_LINES - 1 :]
    return [*ordered[: _LINES - 1], (sum(size for size, _ in rest), f"{len(rest)} others")]


def _name(stat_set: StatSet, stat: Descriptor) -> str:
    return f"{stat_set.provider}.{stat.name}{_group(stat_set, stat)}"


def _group(stat_set: StatSet, stat: Descriptor) -> str:
    group = stat_set.group_of(stat.name)
    return f" (group {group})" if group else ""
