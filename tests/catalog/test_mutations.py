"""Damaged catalogue files: a loader returns the file, or raises the one CatalogError with a place inside the file.

Each file of the catalogue is changed in a few places at random, by a seed that the name of the test contains.
"""

from __future__ import annotations

import copy
import json
import random
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from importlib.resources import files
from typing import Any

import pytest

from kvmscope.catalog.caveats import load_caveats, parse_caveats
from kvmscope.catalog.contracts import parse_contract
from kvmscope.catalog.exit_reasons import parse_reasons
from kvmscope.catalog.findings import FACTS, parse_findings
from kvmscope.catalog.groups import parse_groups
from kvmscope.catalog.inhibits import parse_inhibits
from kvmscope.catalog.kernels import read_kernels
from kvmscope.catalog.metrics import metric_context, parse_metrics
from kvmscope.catalog.review import parse_review
from kvmscope.catalog.stats import load_stats, parse_stats
from kvmscope.errors import CatalogError
from kvmscope.publish.proposal import parse_proposal

CATALOG = files("kvmscope.catalog")

CONTRACT = """
name = "x"
architectures = ["x86", "arm64"]
kernels = ">=5.15 <7.0"

[[stat]]
name = "exits"
scope = "vcpu"
kind = "cumulative"
kernels = ["6.1", "6.12"]

[[stat]]
name = "halt_wait_hist"
scope = "vcpu"
kind = "log-histogram"
unit = "nanoseconds"
size = 32
why = "alerts"
"""

PROPOSAL = """
title = "x"
provider = "kvm"

[[stat]]
name = "apicv_active"
scope = "vcpu"
kind = "instant"
unit = "boolean"
meaning = "whether APICv is active"
moved_in = ["svm_inject_irq"]

[[stat]]
name = "waits_hist"
scope = "vm"
kind = "linear-histogram"
unit = "seconds"
exponent = -9
size = 16
bucket_size = 1000
tier = "stable"
group = "waits"
"""

Load = Callable[[str], object]


def read(name: str) -> str:
    return CATALOG.joinpath(name).read_text(encoding="utf-8")


def rules(text: str) -> object:
    return parse_findings(text, "f", replace(metric_context(), facts=FACTS), caveats=load_caveats())


LOADERS: dict[str, tuple[Callable[[], str], Load]] = {
    "caveats": (lambda: read("caveats.toml"), lambda text: parse_caveats(text, "f")),
    "contract": (lambda: CONTRACT, lambda text: parse_contract(text, "f")),
    "exit_reasons": (lambda: read("exit_reasons.toml"), lambda text: parse_reasons(text, "f")),
    "findings": (lambda: read("findings.toml"), rules),
    "groups": (lambda: read("groups.toml"), lambda text: parse_groups(text, "f")),
    "inhibits": (lambda: read("inhibits.toml"), lambda text: parse_inhibits(text, "f")),
    "metrics": (lambda: read("metrics.toml"), lambda text: parse_metrics(text, "f", load_stats().find)),
    "proposal": (lambda: PROPOSAL, lambda text: parse_proposal(text, "f")),
    "review": (lambda: read("review.toml"), lambda text: parse_review(text, "f")),
    "stats": (lambda: read("stats.toml"), lambda text: parse_stats(text, "f")),
}

JUNK: tuple[Any, ...] = (
    *("", " ", "x", "vm", "5.14", "٥.١٤", "9." + "9" * 5000, "a.b.c", "\n", "{reason}", "{", "kvm", "vcpu"),
    *("rate(exits)", "rate(", "max(" * 300, "1 / 0", "9" * 400, "either(rate(exits), 1)", "fact(vcpus) == 1"),
    *(0, 1, -1, 2**70, True, False, 0.5, float("inf"), float("nan")),
    *([], [[]], [{}], [""], ["x"], ["x", {}], ["x", ["y"]], [1], [True, "x"], {}, {"x": {}}, {"is": 1}, {"any": "x"}),
)


def places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every container inside a value with each of its keys or indices."""
    keys = list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    for key in keys:
        yield value, key
        yield from places(value[key])


def nested(chance: random.Random, value: Any) -> Any:
    """The value below more levels of the same table or list than a person writes."""
    keys = chance.choice((["not"], ["x"], ["all", "not"], [None]))
    for level in range(chance.choice((3, 70))):
        key = keys[level % len(keys)]
        value = [value] if key in (None, "all") else {key: value}
    return value


def damage(chance: random.Random, root: Any) -> None:
    """Change one place: drop it, double it, rename it, or put something else there."""
    inside, key = chance.choice(list(places(root)))
    match chance.randrange(6):
        case 0:
            del inside[key]
        case 1 if isinstance(inside, list):
            inside.insert(key, inside[key])
        case 1:
            inside[chance.choice(("name", "x", "slug", "is", "a.b", ""))] = inside.pop(key)
        case 2:
            other, other_key = chance.choice(list(places(root)))
            inside[key] = json.loads(json.dumps(other[other_key]))
        case 3:
            inside[key] = nested(chance, inside[key])
        case _:
            inside[key] = copy.deepcopy(chance.choice(JUNK))


def toml(value: Any) -> str:
    """A value as inline TOML."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(key)} = {toml(each)}" for key, each in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(toml, value)) + "]"
    return str(value) if isinstance(value, float) else json.dumps(value)


def document(root: dict[str, Any]) -> str:
    return "\n".join(f"{json.dumps(key)} = {toml(value)}" for key, value in root.items()) + "\n"


@dataclass(frozen=True)
class Sampled:
    """A file with some of its entries, so that one round takes a millisecond or two."""

    root: dict[str, Any]

    def pick(self, chance: random.Random) -> dict[str, Any]:
        some = {
            key: chance.sample(value, min(len(value), 4)) if isinstance(value, list) else value
            for key, value in self.root.items()
        }
        picked: dict[str, Any] = json.loads(json.dumps(some))
        return picked


def load_or_refuse(load: Load, text: str) -> None:
    try:
        load(text)
    except CatalogError as error:
        assert error.file == "f"
        assert 1 <= error.line <= text.count("\n") + 1
        assert error.expected and error.found
        assert len(str(error)) < 1000 + len(error.excerpt), "values are quoted in part"


@pytest.mark.parametrize("name", LOADERS)
@pytest.mark.parametrize("seed", range(2))
def test_a_file_with_changed_values_loads_or_is_a_catalog_error(name: str, seed: int) -> None:
    source, load = LOADERS[name]
    original = Sampled(tomllib.loads(source()))
    chance = random.Random(f"{name} {seed}")
    for _ in range(200):
        root = original.pick(chance)
        for _ in range(chance.choice((1, 1, 1, 2, 4))):
            if root:
                damage(chance, root)
        load_or_refuse(load, document(root))


@pytest.mark.parametrize("name", LOADERS)
def test_a_file_with_changed_characters_loads_or_is_a_catalog_error(name: str) -> None:
    source, load = LOADERS[name]
    text, chance = source(), random.Random(name)
    snippets = ("", "=", "[", "]", '"', "'''", "{", "}", "\n", "[[stat]]\n", "9" * 5000, "a.b.c = 1\n", "\x00", "é")
    for _ in range(60):
        start = chance.randrange(len(text))
        end = start + chance.choice((0, 1, 5, 200))
        load_or_refuse(load, text[:start] + chance.choice(snippets) + text[end:])


@pytest.mark.parametrize("name", LOADERS)
def test_an_unchanged_file_loads(name: str) -> None:
    source, load = LOADERS[name]
    load(source())


def test_dotted_keys_that_nest_without_end_are_a_catalog_error() -> None:
    deep = ".".join(["not"] * 3000)
    load_or_refuse(LOADERS["caveats"][1], f'[[caveat]]\nslug = "x"\ntext = "x"\nholds_if.{deep} = 1\n')
    load_or_refuse(LOADERS["stats"][1], f'[[stat]]\nname = "x"\nscope.{deep} = 1\nsince = "6.1"\n')
    load_or_refuse(LOADERS["inhibits"][1], f'[[reason]]\nname.{deep} = "x"\n')


@pytest.mark.parametrize("seed", range(2))
def test_a_damaged_file_of_kernels_loads_or_is_a_catalog_error(seed: int) -> None:
    original = json.loads(CATALOG.joinpath("kernels", "loongarch.json").read_text(encoding="utf-8"))
    chance = random.Random(f"kernels {seed}")
    for _ in range(200):
        root = json.loads(json.dumps(original))
        for _ in range(chance.choice((1, 1, 2))):
            damage(chance, root)
        load_or_refuse(lambda text: read_kernels(text, "f"), json.dumps(root))
    load_or_refuse(lambda text: read_kernels(text, "f"), "[" * 100_000)
