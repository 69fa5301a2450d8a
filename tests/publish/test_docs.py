"""What docs/reference/publish.md shows works and says what is shown there."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from kvmscope import publish
from kvmscope.schema import Scope, Unit

PAGE = (Path(__file__).parents[2] / "docs" / "reference" / "publish.md").read_text(encoding="utf-8")


def blocks(kind: str) -> list[str]:
    return re.findall(rf"^```{kind}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


def test_the_first_example_runs() -> None:
    names: dict[str, Any] = {}
    exec(blocks("python")[0], names)
    assert names["DiskStats"].stat_set.groups == ("latency",)


def test_a_passed_budget_is_told_as_shown() -> None:
    with pytest.raises(ValueError, match="where 256 may be") as caught:

        class ExitStats(publish.Stats, provider="examplevmm", scope=Scope.VCPU, budget=256, groups=("detailed",)):
            userspace_exits = publish.Counter("Exits that this VMM handled.")
            handling_ns = publish.Counter("Time spent on them.", unit=Unit.SECONDS, exponent=-9)
            handling_hist = publish.LogHistogram("Time spent on each of them.", group="detailed")

    assert blocks("text")[0] == f"{caught.value}\n"


def test_every_declaration_stands_in_the_table() -> None:
    declarations = {name for name in publish.__all__ if issubclass_of_declaration(getattr(publish, name))}
    assert declarations == set(re.findall(r"^\| `(\w+)", PAGE, re.MULTILINE))


def issubclass_of_declaration(value: object) -> bool:
    return isinstance(value, type) and issubclass(value, publish.declare.Declaration)
