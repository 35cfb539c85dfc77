"""Making an example of a schema, of the values that are kept for its fields."""

from collections.abc import Mapping
from typing import Any

from app.docs.examples import FIELDS

Schema = Mapping[str, Any]

_BY_TYPE: dict[Any, Any] = {"string": "text", "integer": 1, "number": 1, "boolean": True, "null": None, "object": {}}


def example_of(schema: Schema, components: Schema, sentence: str = "") -> Any:
    """A value that fits the schema. `sentence` is the message of an envelope."""
    model, whole = _resolved(schema, components)
    fields = whole.get("properties", {})
    if "success" not in fields:
        return _value(schema, components)
    values = {name: _field(model, name, fields[name], components) for name in fields if name not in _ENVELOPE}
    data = {"data": _value(fields["data"], components)} if "data" in fields else {}
    told = {"message": sentence} if "message" in fields else {}
    return {"success": True, **data, **told, **values}


_ENVELOPE = ("success", "data", "message")


def _resolved(schema: Schema, components: Schema) -> tuple[str, Schema]:
    """The name and content of what a reference means; an inline schema has its title for a name."""
    if "$ref" not in schema:
        return schema.get("title", ""), schema
    model = schema["$ref"].rpartition("/")[2]
    return model, components[model]


def _field(model: str, name: str, schema: Schema, components: Schema) -> Any:
    _, whole = _resolved(schema, components)
    if "const" in whole:
        return whole["const"]
    place = f"{model}.{name}"
    if place in FIELDS:
        return FIELDS[place]
    if "properties" not in whole and name in FIELDS:
        return FIELDS[name]
    return _value(schema, components)


def _value(schema: Schema, components: Schema) -> Any:
    model, whole = _resolved(schema, components)
    if "properties" in whole:
        return {name: _field(model, name, inner, components) for name, inner in whole["properties"].items()}
    if whole.get("anyOf"):
        return _value(whole["anyOf"][0], components)
    if whole.get("type") == "array":
        return [_value(whole["items"], components)]
    if "const" in whole or "enum" in whole:
        return whole.get("const", whole.get("enum", [None])[0])
    return _BY_TYPE[whole.get("type")]
