"""The schemas of a fleet's hosts, the number of hosts with each, and how the schemas differ."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated

from ...analysis.schema_diff import shape_words
from ...engines.fleet import FleetHost, FleetSchema, FleetStore
from ...schema import Schema
from .place import UNKNOWN, FleetAnswer, fleet_head


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetStatChange:
    """A stat that another schema describes differently."""

    name: Annotated[str, "Its name."]
    before: Annotated[str, "How the most frequent schema describes it."]
    after: Annotated[str, "How this one does."]


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetSchemaView:
    """One schema, compared with the most frequent one of its provider and scope."""

    provider: Annotated[str, "Who owns the stats."]
    scope: Annotated[str, "vm or vcpu."]
    key: Annotated[str, "Identifies the schema; equal schemas have equal keys."]
    stats: Annotated[int, "How many stats it has."]
    hosts: Annotated[int, "How many hosts have it."]
    kernels: Annotated[Mapping[str, int], "These hosts by kernel and architecture, the most first."]
    is_most_frequent: Annotated[bool, "Whether the others of its provider and scope are compared with it."]
    missing: Annotated[Sequence[str], "Stats that it lacks."]
    added: Annotated[Sequence[str], "Stats that it has besides."]
    changed: Annotated[Sequence[FleetStatChange], "Stats that it describes differently."]


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetSchemasView(FleetAnswer):
    """The answer of ``fleet schemas``."""

    schemas: Annotated[Sequence[FleetSchemaView], "By provider and scope, the most frequent first."]


def fleet_schemas_view(store: FleetStore) -> FleetSchemasView:
    """Every schema of the fleet."""
    hosts = store.hosts()
    head = fleet_head(store, hosts)
    of_id = {host.host: host for host in hosts}
    alike: dict[tuple[str, str], dict[str, list[FleetSchema]]] = {}
    for found in store.schemas():
        its = alike.setdefault((found.schema.provider, found.schema.scope.value), {})
        its.setdefault(found.key, []).append(found)
    views = [view for _, of in sorted(alike.items()) for view in _compared(of, of_id)]
    return FleetSchemasView(**head, schemas=tuple(views))


def _compared(of_key: Mapping[str, list[FleetSchema]], hosts: Mapping[str, FleetHost]) -> Iterator[FleetSchemaView]:
    """The schemas of one provider and scope."""
    ranked = sorted(of_key.values(), key=lambda found: (-len({each.host for each in found}), found[0].key))
    first = ranked[0][0].schema
    for place, found in enumerate(ranked):
        schema = found[0].schema
        ids = {each.host for each in found}
        kernels = Counter(_kernel(hosts.get(host)) for host in ids)
        yield FleetSchemaView(
            provider=schema.provider,
            scope=schema.scope.value,
            key=found[0].key,
            stats=len(schema.descriptors),
            hosts=len(ids),
            kernels=dict(sorted(kernels.items(), key=lambda item: (-item[1], item[0]))),
            is_most_frequent=place == 0,
            missing=tuple(stat.name for stat in first.descriptors if stat.name not in schema),
            added=tuple(stat.name for stat in schema.descriptors if stat.name not in first),
            changed=tuple(_changed(first, schema)),
        )


def _changed(before: Schema, after: Schema) -> Iterator[FleetStatChange]:
    for stat in after.descriptors:
        if stat.name in before and before[stat.name].shape != stat.shape:
            words = shape_words(before[stat.name].shape), shape_words(stat.shape)
            yield FleetStatChange(name=stat.name, before=words[0], after=words[1])


def _kernel(host: FleetHost | None) -> str:
    if host is None:
        return UNKNOWN
    return f"{host.kernel or UNKNOWN} {host.architecture or ''}".rstrip()
