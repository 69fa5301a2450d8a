"""The OpenAPI 3.1 description of ``/api/v1``, made from its table of paths and the schemas of the views."""

from __future__ import annotations

from functools import cache
from importlib.metadata import version
from typing import Any

from ...view.jsonout import JsonValue
from ...view.schemas import Schema, json_schema
from ...view.summary import HostSummary
from .answers import ANSWERS, PREFIX, ApiAnswer, ProblemView


@cache
def openapi() -> Schema:
    """The whole description, made once: the version comes from a file that the server's user may be unable to read."""
    parts: Schema = {}
    paths: Schema = {PREFIX + path.path: _path(path, parts) for path in ANSWERS}
    paths[f"{PREFIX}/events"] = _events(parts)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "kvmscope",
            "version": version("kvmscope"),
            "description": "Statistics of KVM on this host, read-only.",
        },
        "paths": paths,
        "components": {"schemas": parts},
    }


def _path(path: ApiAnswer, parts: Schema) -> Schema:
    responses: Schema = {"200": _response(path.text, _reference(path.view, parts))}
    problems = {"400": "A parameter is wrong.", "404": "There is no such thing.", "503": "Not now."}
    for status, text in problems.items():
        responses[status] = _response(text, _reference(ProblemView, parts))
    parameters: list[JsonValue] = [
        {
            "name": each.name,
            "in": "query",
            "required": each.is_required,
            "description": each.text,
            "schema": {"type": "string", "minLength": 1},
        }
        for each in path.parameters
    ]
    name = path.path.strip("/")
    return {"get": {"operationId": name, "summary": path.text, "parameters": parameters, "responses": responses}}


def _events(parts: Schema) -> Schema:
    text = "The summary at each interval, as server-sent events; the answer does not end."
    summary: Schema = {
        "type": "string",
        "contentMediaType": "application/json",
        "contentSchema": _reference(HostSummary, parts),
    }
    # The schema of an event stream is that of each event; OpenAPI 3.2 has the keyword itemSchema for it.
    event: Schema = {"type": "object", "properties": {"data": summary}, "required": ["data"]}
    content: Schema = {"text/event-stream": {"schema": event}}
    responses: Schema = {
        "200": {"description": text, "content": content},
        "503": _response("Too many clients.", _reference(ProblemView, parts)),
    }
    return {"get": {"operationId": "events", "summary": text, "responses": responses}}


def _response(text: str, schema: JsonValue) -> Schema:
    return {"description": text, "content": {"application/json": {"schema": schema}}}


def _reference(view: Any, parts: Schema) -> Schema:
    """The schema of a view, whose parts go into ``parts``."""
    schema = json_schema(view)
    schema.pop("$schema")
    definitions = schema.pop("$defs")
    assert isinstance(definitions, dict)
    for name, each in definitions.items():
        parts[name] = _moved(each)
    if not isinstance(view, type):
        return _as_schema(_moved(schema))
    parts[view.__name__] = _moved(schema)
    return {"$ref": f"#/components/schemas/{view.__name__}"}


def _moved(schema: JsonValue) -> JsonValue:
    """The schema with references that point to where OpenAPI keeps schemas."""
    if isinstance(schema, list):
        return [_moved(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    moved = {key: _moved(value) for key, value in schema.items()}
    if isinstance(reference := schema.get("$ref"), str):
        moved["$ref"] = reference.replace("#/$defs/", "#/components/schemas/")
    return moved


def _as_schema(value: JsonValue) -> Schema:
    assert isinstance(value, dict)
    return value
