"""Stats that a kernel describes but does not count: removed from a sample, with a gap that gives the reason.

The kernel reports 0 for such a stat whatever happens, and kvmscope never shows an unknown as a number. These stats are
listed in catalog/uncounted.toml. Without the stat, ``either`` in a formula takes its next option, as on a kernel that
does not describe it.
Rule: a stat is removed only if the host is known not to count it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from typing import Final

from ..catalog.uncounted import UncountedRule, load_uncounted
from ..host.facts import Machine
from ..sample import Block, Gap, Sample
from ..schema import Schema

_OF_KERNEL: Final = "kvm"
_SCHEMAS_KEPT: Final = 64


class UncountedStats:
    """The stats that one host does not count."""

    def __init__(self, machine: Machine) -> None:
        module = machine.kvm_vendor.value
        self._module = None if module is None else module.name
        self._schemas: tuple[Schema, ...] = ()
        self._found: Mapping[str, str] = {}

    def taken_out(self, sample: Sample) -> Sample:
        """The sample without these stats; unchanged if it is simulated or has none of them."""
        if sample.simulated:
            return sample
        uncounted = self.reasons(tuple(block.schema for block in sample.blocks))
        if not uncounted:
            return sample
        names = frozenset(uncounted)
        gaps = (Gap(reason, provider=_OF_KERNEL, stat=stat) for stat, reason in uncounted.items())
        blocks = (_block(block, names) for block in sample.blocks)
        return replace(sample, blocks=tuple(blocks), gaps=(*sample.gaps, *gaps))

    def reasons(self, schemas: tuple[Schema, ...]) -> Mapping[str, str]:
        """The uncounted stats that these schemas describe, each with the reason."""
        # Most samples have the same schemas as the previous one.
        if schemas != self._schemas:
            self._schemas, self._found = schemas, self._look_up(schemas)
        return self._found

    def _look_up(self, schemas: tuple[Schema, ...]) -> Mapping[str, str]:
        described = {name for schema in schemas if schema.provider == _OF_KERNEL for name in schema.names}
        return {
            stat: f"KVM does not count {stat} on this host (caveat {rule.caveat})"
            for rule in load_uncounted()
            if self._applies(rule, described)
            for stat in rule.stats
            if stat in described
        }

    def _applies(self, rule: UncountedRule, described: set[str]) -> bool:
        if rule.with_stat and rule.with_stat not in described:
            return False
        if not (rule.modules or rule.unless_modules):
            return True
        if self._module is None or self._module in rule.unless_modules:
            return False
        return not rule.modules or self._module in rule.modules


def _block(block: Block, uncounted: frozenset[str]) -> Block:
    schema = _without(block.schema, uncounted)
    return block if schema is block.schema else Block(schema, block.values, block.rows)


@lru_cache(maxsize=_SCHEMAS_KEPT)
def _without(schema: Schema, names: frozenset[str]) -> Schema:
    """The schema without these stats; their words stay in the data, without a descriptor."""
    if schema.provider != _OF_KERNEL or names.isdisjoint(schema.names):
        return schema
    kept = tuple(stat for stat in schema.descriptors if stat.name not in names)
    return Schema(schema.provider, schema.scope, kept, schema.data_size)
