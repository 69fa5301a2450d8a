"""The schemas of docs/schemas are those of the views, and describe what the writer of JSON writes."""

from __future__ import annotations

import json
import runpy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import pytest

from kvmscope.sample import Gap, VmId
from kvmscope.view.jsonout import dump, to_value
from kvmscope.view.schemas import VIEWS, json_schema, undescribed
from kvmscope.view.values import ABSENT_IF_NONE, INLINE, Answer, Moment, Rows

ROOT = Path(__file__).resolve().parents[2]
_texts: Callable[[], Mapping[str, str]] = runpy.run_path(str(ROOT / "tools" / "schemas.py"))["texts"]
TEXTS = _texts()
FOLDER = ROOT / "docs" / "schemas"
NOON = Moment(1_700_000_000_123_456_789)


class Shade(Enum):
    """Of a wheel."""

    RED = "red"


@dataclass(frozen=True, slots=True)
class Wheel:
    """One wheel."""

    colour: Shade
    size_bytes: Annotated[int | None, "How large it is."]
    parts: "Annotated[Sequence[Wheel], 'What it is made of.']"  # noqa: UP037 - it has itself among its parts


class Wheels(Rows[Wheel]):
    """Many of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cart(Answer):
    """All that a view
    can have."""

    made: Annotated[Moment, "When."]
    vm: Annotated[VmId, "Whose."]
    speed: Annotated[Mapping[str, float | None], "By name."]
    wheels: Wheels
    bit: Annotated[int | None, "A bit.", ABSENT_IF_NONE] = None
    kind: Annotated[Literal["a", "b"] | None, "Which."] = None
    load: Annotated[int | bool | Sequence[int], "What it carries."] = 1
    gaps: Annotated[tuple[Gap, ...], "What is not known."] = ()


def cart(**others: Any) -> Cart:
    wheels = Wheels(2, lambda row: Wheel(Shade.RED, row or None, ()))
    return Cart(made=NOON, vm=VmId(7), speed={"top": 1.5, "now": None}, wheels=wheels, **others)


def written(view: object) -> Any:
    return to_value(view)


def test_a_view_is_written_by_its_fields() -> None:
    gap = {"reason": "gone", "vm": None, "vcpu": None, "provider": None, "stat": None}
    assert written(cart(kind="a", gaps=(Gap("gone"),))) == {
        "format": "kvmscope/1",
        "made": "2023-11-14T22:13:20.123Z",
        "vm": "0000000000000007",
        "speed": {"top": 1.5, "now": None},
        "wheels": [{"colour": "red", "size_bytes": size, "parts": []} for size in (None, 1)],
        "kind": "a",
        "load": 1,
        "gaps": [gap],
    }
    assert written(cart(bit=3))["bit"] == 3


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -float("inf")])
def test_what_is_no_number_of_json_is_refused(number: float) -> None:
    with pytest.raises(ValueError, match="not a number of JSON"):
        to_value(cart(load=number))


@pytest.mark.parametrize("value", [np.int64(3), np.zeros(2), {1: 2}, object(), {3}, b"x", Cart])
def test_what_is_no_value_of_a_view_is_refused(value: object) -> None:
    with pytest.raises(TypeError):
        to_value({"it": value})


def test_a_row_is_made_when_it_is_asked_for() -> None:
    made: list[int] = []

    def make(row: int) -> int:
        made.append(row)
        return row * 10

    rows = Rows(1_000_000, make)
    assert (rows[3], rows[-1], list(rows[5:7]), len(rows)) == (30, 9_999_990, [50, 60], 1_000_000)
    assert made == [3, 999_999, 5, 6]
    with pytest.raises(IndexError):
        rows[1_000_000]


def test_a_schema_describes_what_is_written(schema_errors: Callable[[Any, Any], list[str]]) -> None:
    schema = json_schema(Cart)
    for view in (cart(), cart(bit=1, kind="b", load=[1, 2], gaps=(Gap("x", VmId(1), 2, "kvm", "exits"),))):
        assert schema_errors(schema, json.loads(dump(to_value(view)))) == []


@pytest.mark.parametrize(
    "wrong",
    [
        {"made": 3},
        {"vm": "7"},
        {"speed": {"top": "fast"}},
        {"wheels": [{"colour": "blue", "size_bytes": None, "parts": []}]},
        {"wheels": [{"colour": "red", "parts": []}]},
        {"bit": None},
        {"kind": "c"},
        {"load": ["x"]},
        {"format": "kvmscope/2"},
        {"more": 1},
    ],
)
def test_a_schema_refuses_what_is_not_written(wrong: Any, schema_errors: Callable[[Any, Any], list[str]]) -> None:
    assert schema_errors(json_schema(Cart), written(cart()) | wrong) != []


def test_texts_of_a_schema_are_docstrings_and_what_stands_beside_fields() -> None:
    schema: Any = json_schema(Cart)
    assert schema["description"] == "All that a view can have."
    assert schema["properties"]["made"]["description"] == "When."
    assert schema["$defs"]["Wheel"]["properties"]["colour"]["description"] == "Of a wheel."


@dataclass(frozen=True, slots=True)
class Crate:
    """A crate."""

    class_: Annotated[str, "Of goods."]
    counts: Annotated[Mapping[str, int | None], "By name of goods.", INLINE]


def test_a_mapping_in_line_has_its_keys_beside_those_of_the_fields(
    schema_errors: Callable[[Any, Any], list[str]],
) -> None:
    assert written(Crate("a", {"nuts": 3, "bolts": None})) == {"class": "a", "nuts": 3, "bolts": None}
    schema: Any = json_schema(Crate)
    assert schema["additionalProperties"] == {"description": "By name of goods.", "type": ["integer", "null"]}
    assert schema_errors(schema, {"class": "a", "nuts": 3}) == []
    assert schema_errors(schema, {"class": "a", "nuts": "many"}) != []
    assert schema_errors(schema, {"nuts": 3}) != []


def test_an_answer_can_be_one_of_several_views(schema_errors: Callable[[Any, Any], list[str]]) -> None:
    schema = json_schema(Crate | Cart)
    for view in (Crate("a", {}), cart()):
        assert schema_errors(schema, json.loads(dump(to_value(view)))) == []
    assert schema_errors(schema, {"more": 1}) != []


def test_a_type_of_which_no_view_is_made_is_refused() -> None:
    @dataclass
    class Odd:
        """Odd."""

        it: set[int]

    with pytest.raises(TypeError, match="not a type of which views are made"):
        json_schema(Odd)


@pytest.mark.parametrize("command", VIEWS)
def test_every_field_of_a_view_says_what_it_is(command: str) -> None:
    assert [name for name in undescribed(VIEWS[command]) if not name.startswith("Gap")] == []


@pytest.mark.parametrize("name", TEXTS)
def test_a_file_is_the_schema_of_its_view(name: str) -> None:
    assert (FOLDER / name).read_text(encoding="utf-8") == TEXTS[name], "run tools/schemas.py"


def test_there_is_no_other_file() -> None:
    assert {path.name for path in FOLDER.glob("*")} == set(TEXTS)
