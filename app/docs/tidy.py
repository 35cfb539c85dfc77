"""Making pydantic's schemas say exactly what the API does, and no more than a reader needs."""

import copy
from collections.abc import Iterator
from typing import Any

from app.core.envelope import SOMETIMES

Schema = dict[str, Any]
_PREFIX = "#/components/schemas/"
# How pydantic passes on limits that stand outside of a validator.
_LIMITS = {"ge": "minimum", "le": "maximum", "gt": "exclusiveMinimum", "lt": "exclusiveMaximum"}


def tidy(document: dict[str, Any]) -> dict[str, Any]:
    """A copy of the document without noise, whose answers' schemas demand every field that is always there."""
    document = _with_short_names(copy.deepcopy(document))
    schemas: dict[str, Schema] = document["components"]["schemas"]
    for schema in _every_schema(document):
        _tidy_schema(schema)
    asked = _reachable(schemas, _bodies(document))
    for name, schema in schemas.items():
        if name in asked:
            for field in schema.get("properties", {}).values():
                field.pop("default", None)  # in a body, absent means absent
        elif "properties" in schema and name not in {"Refusal", "ForbiddenRefusal", "InvalidRefusal", "BulkQueued"}:
            schema["required"] = [
                name for name, field in schema["properties"].items() if not field.pop(SOMETIMES, False)
            ]
    for name in set(schemas) - _reachable(schemas, document, document["components"].get("responses")):
        del schemas[name]
    return document


def _with_short_names(document: dict[str, Any]) -> dict[str, Any]:
    """Schemas are called by their titles, where pydantic spells out modules and generic classes."""
    schemas: dict[str, Schema] = document["components"]["schemas"]
    names = {name: schema.get("title", name) for name, schema in schemas.items()}
    assert len(set(names.values())) == len(names), "two schemas have one title"
    document["components"]["schemas"] = {names[name]: schema for name, schema in schemas.items()}
    for schema in _every_schema(document):
        if schema.get("$ref", "").startswith(_PREFIX):
            name = schema["$ref"].removeprefix(_PREFIX)
            schema["$ref"] = f"{_PREFIX}{names.get(name, name)}"
    return document


def inline_parameters(document: dict[str, Any]) -> None:
    """A query parameter is text: what may be null in the code is merely absent there."""
    for parameter in _parameters(document):
        schema = parameter["schema"]
        options = [option for option in schema.get("anyOf", ()) if option != {"type": "null"}]
        if len(options) == 1:
            parameter["schema"] = {**{k: v for k, v in schema.items() if k != "anyOf"}, **options[0]}
        parameter["required"] = parameter["in"] == "path"


def _parameters(document: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for item in document["paths"].values():
        for operation in item.values():
            yield from operation.get("parameters", ())


def _bodies(document: dict[str, Any]) -> list[Any]:
    return [
        operation["requestBody"]
        for item in document["paths"].values()
        for operation in item.values()
        if "requestBody" in operation
    ]


def _every_schema(value: Any) -> Iterator[Schema]:
    if isinstance(value, dict):
        if {"type", "anyOf", "$ref", "properties", "enum", "ge"} & value.keys():
            yield value
        for item in value.values():
            yield from _every_schema(item)
    elif isinstance(value, list):
        for item in value:
            yield from _every_schema(item)


def _tidy_schema(schema: Schema) -> None:
    if isinstance(schema.get("title"), str) and "properties" not in schema:
        del schema["title"]
    for ours, theirs in _LIMITS.items():
        if ours in schema:
            limit = schema.pop(ours)
            for option in schema.get("anyOf", [schema]):
                if option.get("type") in {"integer", "number"}:
                    option[theirs] = limit


def _references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        reference = value.get("$ref")
        if isinstance(reference, str) and reference.startswith(_PREFIX):
            yield reference.removeprefix(_PREFIX)
        for key, item in value.items():
            if key != "schemas":
                yield from _references(item)
    elif isinstance(value, list):
        for item in value:
            yield from _references(item)


def _reachable(schemas: dict[str, Schema], *starts: Any) -> set[str]:
    """The schemas that these parts of the document mean, directly or by way of another."""
    found: set[str] = set()
    waiting = [name for start in starts for name in _references(start)]
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting.extend(_references(schemas[name]))
    return found
