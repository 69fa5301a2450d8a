"""JSON Schema of every view, made from its class: types, docstrings, and the description of each field.

Draft 2020-12. A schema allows unknown keys, as a later version of ``kvmscope/1`` may add some. Rule: every type that
``jsonout`` can write is described here, and any other type is a TypeError.
"""

from __future__ import annotations

import dataclasses
import inspect
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from enum import Enum
from typing import Annotated, Any, Final, Literal, TypeAlias, Union, get_args, get_origin, get_type_hints

from ..sample import VmId
from .apicv import ApicvView
from .check import CheckView
from .contract import ContractView
from .diff import DiffView
from .doctor import DoctorReport
from .dump import DumpRow
from .episodes import EpisodeListView
from .explain import ExplanationView
from .fleet.apicv import FleetApicvView
from .fleet.diff import FleetDiffView
from .fleet.doctor import FleetDoctorView
from .fleet.schemas import FleetSchemasView
from .fleet.status import FleetStatusView
from .governing import GovernorStep
from .groups import GroupListView, GroupTrialView
from .histogram import HistogramListView, HistogramView
from .indexing import IndexView
from .jsonout import JsonValue
from .listing import StatListView, VmListView
from .loading import LoadView
from .overview import Overview
from .reading import ReadingView
from .report import ReportView
from .review import ReviewView
from .rules import RuleList
from .schema_diff import SchemaDiffView
from .sql_result import QuestionList, SqlAnswer
from .values import ABSENT_IF_NONE, INLINE, Moment, Rows, key_of

Schema: TypeAlias = dict[str, JsonValue]

DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"

VIEWS: Final[Mapping[str, Any]] = {
    "apicv": ApicvView,
    "check": CheckView,
    "diff": DiffView,
    "doctor": DoctorReport,
    "doctor-rules": RuleList,
    "dump": DumpRow,
    "episodes": EpisodeListView,
    "fleet-index": IndexView,
    "fleet-load": LoadView,
    "explain": ExplanationView,
    "fleet-apicv": FleetApicvView,
    "fleet-diff": FleetDiffView,
    "fleet-doctor": FleetDoctorView,
    "fleet-schemas": FleetSchemasView,
    "fleet-status": FleetStatusView,
    "govern-polling": GovernorStep,
    "groups": GroupListView,
    "groups-try": GroupTrialView,
    "hist": HistogramView | HistogramListView,
    "list": StatListView | VmListView,
    "read": ReadingView,
    "report": ReportView,
    "schema-check": ContractView,
    "schema-diff": SchemaDiffView,
    "schema-review": ReviewView,
    "sql": SqlAnswer | QuestionList,
    "status": Overview,
}
"""The answer of each command with ``--json``: a class or a union of classes, by the command's words with hyphens."""

_SIMPLE: Final[Mapping[object, Schema]] = {
    type(None): {"type": "null"},
    bool: {"type": "boolean"},
    int: {"type": "integer"},
    float: {"type": "number"},
    str: {"type": "string"},
    VmId: {"type": "string", "pattern": "^[0-9a-f]{16}$"},
    Moment: {"type": "string", "format": "date-time"},
}


def json_schema(view: Any) -> Schema:
    """The JSON Schema of a view, or of a union of views, with all of its parts under ``$defs``."""
    described = _Describer()
    root = described.of_root(view)
    return {"$schema": DIALECT, **root, "$defs": dict(sorted(described.parts.items()))}


def undescribed(view: Any) -> Iterator[str]:
    """Fields of a view and of its parts that have no description, and classes without a docstring."""
    described = _Describer()
    described.of_root(view)
    yield from described.undescribed


class _Describer:
    """Describes types; ``parts``: the classes found so far, by name."""

    def __init__(self) -> None:
        self.parts: dict[str, JsonValue] = {}
        self.undescribed: list[str] = []

    def of_root(self, view: Any) -> Schema:
        """The schema of a whole answer: a class, or one of several."""
        return {"title": view.__name__, **self.of_class(view)} if isinstance(view, type) else self.of(view)

    def of_class(self, view: type) -> Schema:
        """A dataclass: an object with a key for each field."""
        hints = get_type_hints(view, include_extras=True)
        names = [each.name for each in dataclasses.fields(view)]
        inline = [name for name in names if INLINE in _metadata(hints[name])]
        properties: Schema = {
            key_of(name): self._of_field(view, name, hints[name]) for name in names if name not in inline
        }
        always: list[JsonValue] = [
            key_of(name) for name in names if name not in inline and ABSENT_IF_NONE not in _metadata(hints[name])
        ]
        return {
            "description": self._text_of(view),
            "type": "object",
            "properties": properties,
            "required": always,
            **self._of_inline(view, [(name, hints[name]) for name in inline]),
        }

    def _of_inline(self, view: type, mappings: Sequence[tuple[str, object]]) -> Schema:
        """The inline mapping, whose keys appear beside those of the fields; at most one is allowed."""
        if not mappings:
            return {}
        if len(mappings) > 1:
            raise TypeError(f"{view.__name__} has two mappings in line")
        described = self._of_field(view, *mappings[0])
        return {"additionalProperties": described | _as_schema(described.pop("additionalProperties"))}

    def _of_field(self, view: type, name: str, hint: object) -> Schema:
        texts = [text for text in _metadata(hint) if isinstance(text, str)]
        if not texts and not _says_itself(hint):
            self.undescribed.append(f"{view.__name__}.{name}")
        schema = self.of(_without_none(hint) if ABSENT_IF_NONE in _metadata(hint) else hint)
        return {"description": " ".join(texts), **schema} if texts else schema

    def of(self, hint: object) -> Schema:
        """Any type of a view."""
        if hint in _SIMPLE:
            return dict(_SIMPLE[hint])
        origin, arguments = get_origin(hint), get_args(hint)
        for kinds, describe in self._generic:
            if origin in kinds:
                return describe(*arguments)
        if isinstance(hint, type) and issubclass(hint, Rows):
            (base,) = vars(hint)["__orig_bases__"]
            return {"type": "array", "items": self.of(*get_args(base))}
        if isinstance(hint, type) and issubclass(hint, Enum):
            return {"description": self._text_of(hint), "enum": [each.value for each in hint]}
        if isinstance(hint, type) and dataclasses.is_dataclass(hint):
            return self._reference(hint)
        raise TypeError(f"{hint} is not a type of which views are made")

    @property
    def _generic(self) -> tuple[tuple[tuple[object, ...], Callable[..., Schema]], ...]:
        return (
            ((Annotated,), lambda hint, *_: self.of(hint)),
            ((Literal,), lambda *values: {"const": values[0]} if len(values) == 1 else {"enum": list(values)}),
            ((Union, types.UnionType), self._union),
            ((Mapping,), lambda _, value: {"type": "object", "additionalProperties": self.of(value)}),
            ((Sequence, tuple, list), lambda item, *_: {"type": "array", "items": self.of(item)}),
        )

    def _union(self, *choices: object) -> Schema:
        """The schema of a union. Types without other keywords share one ``type``."""
        schemas = [self.of(choice) for choice in choices]
        if all(schema.keys() == {"type"} for schema in schemas):
            return {"type": [schema["type"] for schema in schemas]}
        return {"anyOf": list(schemas)}

    def _reference(self, view: type) -> Schema:
        name = view.__name__
        if name not in self.parts:
            self.parts[name] = {}  # for a class that contains itself
            self.parts[name] = self.of_class(view)
        return {"$ref": f"#/$defs/{name}"}

    def _text_of(self, view: type) -> str:
        text = inspect.cleandoc(view.__doc__ or "")
        if not text or text.startswith(f"{view.__name__}("):
            self.undescribed.append(view.__name__)
        return " ".join(text.split()).replace("``", "`")


def _as_schema(value: JsonValue) -> Schema:
    assert isinstance(value, dict)
    return value


def _metadata(hint: object) -> tuple[Any, ...]:
    return getattr(hint, "__metadata__", ())


def _without_none(hint: object) -> object:
    """The type of a key that is omitted if it is None."""
    inner = get_args(hint)[0]
    choices = [choice for choice in get_args(inner) if choice is not type(None)]
    return choices[0] if len(choices) == 1 else inner


def _says_itself(hint: object) -> bool:
    """Whether the docstring of a type describes the field."""
    parts = get_args(hint) or (hint,)
    return any(isinstance(part, type) and (dataclasses.is_dataclass(part) or issubclass(part, Enum)) for part in parts)
