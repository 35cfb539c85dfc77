"""The documents as Markdown, for language models: an index, and everything in one file."""

import json
from typing import Any

from app.core.links import EXAMPLE_URL
from app.docs.openapi import operations
from app.docs.refusals import SHARED

Document = dict[str, Any]


def index(document: Document) -> str:
    """`/llms.txt`: what this is, and every operation in a line."""
    info = document["info"]
    elsewhere = (
        f"Every call with its fields, answers, refusals and examples: [llms-full.txt]({EXAMPLE_URL}/llms-full.txt). "
        f"The same as OpenAPI 3.1: [docs.openapi]({EXAMPLE_URL}/docs.openapi).\n"
    )
    parts = [f"# {info['title']}\n\n> {info['summary']}\n", elsewhere, info["description"]]
    for tag in document["tags"]:
        lines = [
            f"- [`{key}`]({EXAMPLE_URL}/docs#tag/{tag['name'].lower().replace(' ', '-')}): {_first_line(operation)}"
            for key, _, operation in operations(document)
            if tag["name"] in operation["tags"]
        ]
        parts.append(f"## {tag['name']}\n\n{tag['description']}\n\n" + "\n".join(lines) + "\n")
    return "\n".join(parts)


def full(document: Document) -> str:
    """`/llms-full.txt`: the whole reference."""
    info = document["info"]
    parts = [f"# {info['title']}\n\n> {info['summary']}\n", f"Base address: {EXAMPLE_URL}\n", info["description"]]
    for tag in document["tags"]:
        parts.append(f"## {tag['name']}\n\n{tag['description']}\n")
        parts += [
            _operation(document, key, operation)
            for key, _, operation in operations(document)
            if tag["name"] in operation["tags"]
        ]
    parts.append("## What webhooks are posted\n")
    parts += [_posted(document, item["post"]) for item in document["webhooks"].values()]
    parts.append("## Refusals\n\nWhat several operations answer.\n")
    parts += [_refusal(each) for each in document["components"]["responses"].values()]
    return "\n".join(parts)


def _first_line(operation: Document) -> str:
    return str(operation["description"].partition("\n")[0])


def _operation(document: Document, key: str, operation: Document) -> str:
    parts = [f"### {operation['summary']}: `{key}`\n\n{operation['description']}\n"]
    if parameters := operation.get("parameters"):
        lines = [
            f"- `{each['name']}` ({each['in']}, {_type(document, each['schema'])}): {each['description']}"
            for each in parameters
        ]
        parts.append("Parameters:\n\n" + "\n".join(lines) + "\n")
    if "requestBody" in operation:
        parts.append("Body:\n\n" + _fields(document, operation["requestBody"]["content"]["application/json"]["schema"]))
    sample = operation["x-codeSamples"][0]
    parts.append(f"```{sample['lang']}\n{sample['source']}\n```\n")
    for status, response in operation["responses"].items():
        if status.startswith("2"):
            parts.append(_answer(status, response))
    refused = ", ".join(_refused(status, each) for status, each in operation["responses"].items() if status[0] in "45")
    if refused:
        parts.append(f"Refused with: {refused}\n")
    return "\n".join(parts)


def _answer(status: str, response: Document) -> str:
    content = response.get("content", {})
    media = content.get("application/json")
    if media is None:
        examples = "".join(f"\n```\n{each['example'].strip()}\n```\n" for each in content.values() if "example" in each)
        return f"Answers {status}: {', '.join(content) or 'nothing'}\n{examples}"
    shown = json.dumps(media["example"], indent=2, ensure_ascii=False)
    return f"Answers {status}:\n\n```json\n{shown}\n```\n"


def _refused(status: str, response: Document) -> str:
    """The status, and the sentences that not every operation with this status has."""
    examples = response.get("content", {}).get("application/json", {}).get("examples", {})
    own = [each["value"]["message"] for name, each in examples.items() if name not in SHARED]
    return f"{status} ({', '.join(f'`{message}`' for message in own)})" if own else status


def _refusal(response: Document) -> str:
    media = response["content"]["application/json"]
    shown = [json.dumps(each["value"], ensure_ascii=False) for each in media["examples"].values()]
    return f"{response['description']}:\n\n```json\n" + "\n".join(shown) + "\n```\n"


def _posted(document: Document, operation: Document) -> str:
    schema = operation["requestBody"]["content"]["application/json"]["schema"]
    return f"### {operation['summary']}\n\n{operation['description']}\n\n{_fields(document, schema)}"


def _resolved(document: Document, schema: Document) -> Document:
    if "$ref" not in schema:
        return schema
    found: Document = document["components"]["schemas"][schema["$ref"].rsplit("/", 1)[1]]
    return found


def _fields(document: Document, schema: Document, indent: str = "") -> str:
    """A list of the fields of an object, those of objects in it below them."""
    whole = _resolved(document, schema)
    if whole.get("type") == "array":
        return f"{indent}A list of:\n\n" + _fields(document, whole["items"], indent)
    required = whole.get("required", ())
    lines = []
    for name, inner in whole.get("properties", {}).items():
        need = ", required" if name in required else ""
        text = f": {inner['description']}" if "description" in inner else ""
        lines.append(f"{indent}- `{name}` ({_type(document, inner)}{need}){text}\n")
        if "properties" in (nested := _resolved(document, inner)):
            lines.append(_fields(document, nested, indent + "  "))
    return "".join(lines) + ("" if indent else "\n")


def _type(document: Document, schema: Document) -> str:
    whole = _resolved(document, schema)
    if options := whole.get("anyOf"):
        return " or ".join(_type(document, option) for option in options)
    if "const" in whole:
        return json.dumps(whole["const"])
    if "enum" in whole:
        return " | ".join(json.dumps(value) for value in whole["enum"])
    kind = str(whole.get("type", "value"))
    if kind == "array":
        return f"list of {_type(document, whole['items'])}"
    limits = [
        f"{word} {whole[name]}"
        for name, word in (("minimum", "from"), ("maximum", "to"), ("maxLength", "up to"), ("minLength", "at least"))
        if name in whole
    ]
    return " ".join([whole.get("format", kind), *limits])
