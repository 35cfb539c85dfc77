"""Makes an example of a schema from the examples of its fields."""

from collections.abc import Mapping
from typing import Any

Schema = Mapping[str, Any]

_BY_TYPE: dict[Any, Any] = {"string": "text", "integer": 1, "number": 1, "boolean": True, "null": None, "object": {}}


def example_of(schema: Schema, components: Schema, sentence: str = "") -> Any:
    """A value that fits the schema. `sentence` is the message of an envelope."""
    fields = _resolved(schema, components).get("properties", {})
    if "success" not in fields:
        return _value(schema, components)
    values = {name: _value(fields[name], components) for name in fields if name not in _ENVELOPE}
    data = {"data": _value(fields["data"], components)} if "data" in fields else {}
    message = {"message": sentence} if "message" in fields else {}
    return {"success": True, **data, **message, **values}


def body_of(schema: Schema, components: Schema) -> Any:
    """A request's body: what it requires, and what else has an example of its own."""
    whole = _resolved(schema, components)
    if "properties" not in whole:
        return _value(schema, components)
    required = whole.get("required", ())
    fields = {name: inner for name, inner in whole["properties"].items() if name in required or "examples" in inner}
    return {name: _value(inner, components) for name, inner in fields.items()}


_ENVELOPE = ("success", "data", "message")


def _resolved(schema: Schema, components: Schema) -> Schema:
    """What a reference stands for."""
    found: Schema = components[schema["$ref"].rpartition("/")[2]] if "$ref" in schema else schema
    return found


def _value(schema: Schema, components: Schema) -> Any:
    whole = {**_resolved(schema, components), **schema}
    if "examples" in whole:
        return whole["examples"][0]
    if "const" in whole or "enum" in whole:
        return whole.get("const", whole.get("enum", [None])[0])
    if "properties" in whole:
        return {name: _value(inner, components) for name, inner in whole["properties"].items()}
    if whole.get("anyOf"):
        return _value(whole["anyOf"][0], components)
    if whole.get("type") == "array":
        return [_value(whole["items"], components)]
    return _BY_TYPE[whole.get("type")]
