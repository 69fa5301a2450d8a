"""Walking a tree."""

from __future__ import annotations

from kvmscope.formula.parse import parse
from kvmscope.formula.text import write
from kvmscope.formula.tree import (
    walk,
)
from kvmscope.schema import Scope


def test_parts_come_with_their_scope() -> None:
    parts = walk(parse("rate(flushes) > sum(rate(exits) * 2)"), Scope.VM)
    scopes = {write(part): scope for part, scope in parts}
    assert scopes["rate(flushes)"] is Scope.VM
    assert scopes["sum(rate(exits) * 2)"] is Scope.VM
    assert scopes["rate(exits)"] is Scope.VCPU
