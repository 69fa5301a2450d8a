"""A VMM in a process of its own that publishes what it is told, a line of JSON at a time, until its input ends.

A line: {"scope", "groups", "stats": {name: {"kind", "options", "updates"}}}. The answer, when all is published and
updated: the number of an fd of the file (null if there is none), and the words of each stat as its cell has them.
"""

from __future__ import annotations

import json
import os
import sys
import types
from typing import Any

from kvmscope import publish
from kvmscope.publish.cells import Cell
from kvmscope.schema import Base, Scope, Unit

UPDATES = {
    "Counter": "add",
    "Instant": "set",
    "Boolean": "set",
    "Bit": "set",
    "Peak": "raise_to",
    "LinearHistogram": "record",
    "LogHistogram": "record",
}


def main() -> None:
    for line in sys.stdin:
        order: dict[str, Any] = json.loads(line)
        scope = Scope(order["scope"])
        kind = declare_class(scope, order["stats"])
        with publish.Vm("web-1") as vm:
            stats = kind(vm, vcpu=5 if scope is Scope.VCPU else None, groups=order["groups"])
            cells: dict[str, Cell] = {name: getattr(stats, f"stat_{i}") for i, name in enumerate(order["stats"])}
            for name, about in order["stats"].items():
                update = getattr(cells[name], UPDATES[about["kind"]])
                for value in about["updates"]:
                    update(value)
            publication = stats.publication
            fd = publication.open_fd() if publication.stat_set.descriptors else None
            answer = {"fd": fd, "raw": {name: cell.raw for name, cell in cells.items()}}
            print(json.dumps(answer), flush=True)
            sys.stdin.readline()
            if fd is not None:
                os.close(fd)


def declare_class(scope: Scope, stats: dict[str, Any]) -> type[publish.Stats]:
    declared = {f"stat_{number}": declare(name, about) for number, (name, about) in enumerate(stats.items())}
    keywords = {"provider": "randomvmm", "scope": scope}
    return types.new_class("Declared", (publish.Stats,), keywords, lambda body: body.update(declared))


def declare(name: str, about: dict[str, Any]) -> Any:
    options = dict(about["options"])
    if "unit" in options:
        options |= {"unit": Unit[options["unit"]], "base": Base[options["base"]]}
    return getattr(publish, about["kind"])("Something that is counted.", name=name, **options)


if __name__ == "__main__":
    main()
