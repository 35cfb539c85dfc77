"""The OpenAPI document: what FastAPI knows of the routes, made complete and true.

FastAPI does not know the calls that are answered outside of it, the bodies that are read by hand, nor any refusal; its
schemas are made exact (`tidy`), and every operation gets its title, needs, examples and code.
"""

import copy
import inspect
from collections.abc import Iterator
from importlib.metadata import version
from typing import Any

from fastapi import FastAPI
from fastapi.dependencies.models import Dependant
from fastapi.openapi.utils import get_openapi
from fastapi.routing import iter_route_contexts

from app.docs import phone_calls, refusals, shapes, words
from app.docs.examples import BODIES, HOST, PARAMETERS
from app.docs.instances import example_of
from app.docs.samples import TOKEN, Request, filled, samples
from app.docs.tidy import inline_parameters, tidy

Operation = dict[str, Any]
Need = tuple[str, str | None]

METHODS = ("get", "post", "put", "patch", "delete")
_WITH_BODY = ("post", "put", "patch", "delete")
_BODIES = {
    "POST /api/sms": "SmsRequest",
    "POST /api/sms/bulk": "BulkRequest",
    "POST /api/contacts/import": "ImportRequest",
}
_ANSWERS = {"GET /health/ready": "Ready"}
_BY_DEVICE_TOKEN = {
    "PATCH /api/mobile/v1/device",
    "GET /api/mobile/v1/webhooks",
    "GET /api/mobile/v1/settings",
}
_UNSAID = "Successful Response"  # FastAPI's own words
_DESCRIPTIONS = {"200": "Done", "201": "Made", "204": "Done, with nothing to say"}
_WITHOUT_DATABASE = {"GET /health/live", "GET /health/ready", "GET /api/mobile/v1/device"}


def describe(app: FastAPI) -> dict[str, Any]:
    """The document of an application. Addresses in it begin with `examples.HOST`."""
    document = get_openapi(
        title=words.TITLE,
        version=version("smsfleet"),
        openapi_version="3.1.0",
        summary=words.SUMMARY,
        description=words.INTRODUCTION,
        routes=app.routes,
        servers=[{"url": HOST}],
    )
    document["paths"].update(copy.deepcopy(phone_calls.PATHS))
    document["paths"] = {path: _in_order(item) for path, item in document["paths"].items()}
    components = document["components"]
    components["schemas"].update(shapes.schemas())
    needs, sentences = _needs(app), _sentences(app)
    for key, path, operation in operations(document):
        _complete(key, path, operation, needs.get(key))
    _name_operations(document)
    document["webhooks"] = _webhooks()
    inline_parameters(document)
    components["schemas"].update(refusals.SCHEMAS)
    components["responses"] = refusals.RESPONSES
    components["securitySchemes"] = _SECURITY
    document["tags"] = _tags(document)
    document = tidy(document)
    for key, path, operation in operations(document):
        _exemplify(key, path, operation, document["components"]["schemas"], sentences.get(key, ""))
    _link(document)
    return document


_SECURITY = {
    "token": {
        "type": "http",
        "scheme": "bearer",
        "description": "A token as signing in or creating an API key gives it: `<id>|<secret>`",
    },
    "device": {
        "type": "http",
        "scheme": "bearer",
        "description": "The token that a phone was given when it was enrolled",
    },
}


def operations(document: dict[str, Any]) -> Iterator[tuple[str, str, Operation]]:
    """Every operation, with its key (`POST /api/sms`) and its path."""
    for path, item in document["paths"].items():
        for method in METHODS:
            if method in item:
                yield f"{method.upper()} {path}", path, item[method]


def _in_order(item: dict[str, Any]) -> dict[str, Any]:
    return {method: item[method] for method in METHODS if method in item}


def _needs(app: FastAPI) -> dict[str, Need]:
    """The ability, and the feature of the plan, that each operation asks of a token, read from its dependencies."""
    found: dict[str, Need] = {}
    for route in iter_route_contexts(app.routes):
        original = route.original_route
        for call in _calls(getattr(original, "dependant", None)):
            if getattr(call, "__qualname__", "") in {"can.<locals>.allowed", "can_alone.<locals>.allowed"}:
                values = inspect.getclosurevars(call).nonlocals
                for method in getattr(original, "methods", None) or ():
                    found[f"{method} {route.path}"] = (values["ability"], values.get("feature"))
    return found


def _sentences(app: FastAPI) -> dict[str, str]:
    """The `message` of each operation's answer, as its route's code has it."""
    found: dict[str, str] = {}
    for route in iter_route_contexts(app.routes):
        original = route.original_route
        endpoint = getattr(original, "endpoint", None)
        if endpoint is None:
            continue
        texts = [text for text in _constants(endpoint) if " " in text and text != endpoint.__doc__]
        for method in getattr(original, "methods", None) or ():
            key = f"{method} {route.path}"
            found[key] = _WRITTEN.get(key) or (texts[-1] if texts else "")
    return found


# Sentences with figures in them, and those that are not made by the route itself.
_WRITTEN = {
    "POST /api/contacts/import": "Imported 42 contacts",
    "POST /api/webhooks/deliveries/replay": "Replaying 12 webhook deliveries",
    "POST /api/sms/bulk": "Bulk SMS queued for sending",
}


def _constants(endpoint: Any) -> list[str]:
    return [value for value in endpoint.__code__.co_consts if isinstance(value, str)]


def _calls(dependant: Dependant | None) -> Iterator[Any]:
    for inner in dependant.dependencies if dependant else ():
        yield inner.call
        yield from _calls(inner)


def _complete(key: str, path: str, operation: Operation, need: Need | None) -> None:
    """Title, security, bodies and refusals."""
    operation["summary"] = words.TITLES.get(key, operation["summary"].capitalize())
    if key in _BY_DEVICE_TOKEN:
        operation["security"] = phone_calls.DEVICE
    elif operation.get("security") and operation["security"] != phone_calls.DEVICE:
        operation["security"] = [{"token": []}]
    if need is not None:
        ability, feature = need
        plan = f", and the plan's feature `{feature}`" if feature else ""
        operation["description"] = f"{operation['description']}\n\nNeeds the ability `{ability}`{plan}."
    if key in _BODIES:
        operation["requestBody"] = {"required": True, "content": _json(_BODIES[key])}
    for status, told in operation["responses"].items():
        if told["description"] == _UNSAID:
            told["description"] = _DESCRIPTIONS.get(status, _UNSAID)
    if key in _ANSWERS:
        status = next(iter(operation["responses"]))
        operation["responses"][status]["content"] = _json(_ANSWERS[key])
    _refuse(key, path, operation, need)


def _json(model: str) -> dict[str, Any]:
    return {"application/json": {"schema": {"$ref": f"#/components/schemas/{model}"}}}


def _refuse(key: str, path: str, operation: Operation, need: Need | None) -> None:
    method = key.partition(" ")[0].lower()
    parameters = operation.get("parameters", [])
    responses = {status: told for status, told in operation["responses"].items() if status != "422"}
    statuses = set(refusals.SPECIAL.get(key, ()))
    if operation.get("security"):
        statuses.add("401")
    if need is not None:
        statuses.add("403")
    if any(parameter["in"] == "path" for parameter in parameters):
        statuses.add("404")
    if any(parameter["name"].lower() == "idempotency-key" for parameter in parameters):
        statuses.add("409")
    if method in _WITH_BODY:
        statuses |= {"408", "413"}
    if "requestBody" in operation:
        statuses.add("415")
    if "400" not in responses and ("requestBody" in operation or any(each["in"] == "query" for each in parameters)):
        statuses.add("422")
    if key not in _WITHOUT_DATABASE:
        statuses.add("503")
    if "Phones" in operation["tags"]:
        statuses.discard("422") if "requestBody" not in operation or "400" in responses else None
    told = {status: refusals.refusal(key, path, status) for status in sorted(statuses)}
    operation["responses"] = {**responses, **told}


def _name_operations(document: dict[str, Any]) -> None:
    """Short ids for programs that generate clients: `sms_send`, `contacts_list_groups`."""
    taken: set[str] = set()
    for key, path, operation in operations(document):
        if operation["operationId"].startswith("phones_"):
            continue
        name = operation["operationId"].split("_api_")[0].split("_health_")[0]
        tag = operation["tags"][0].lower().replace(" ", "_")
        short = f"{tag}_{name}"
        method = key.partition(" ")[0].lower()
        if method == "patch" and "put" in document["paths"][path]:
            short += "_patch"
        assert short not in taken, short
        taken.add(short)
        operation["operationId"] = short


def _tags(document: dict[str, Any]) -> list[dict[str, str]]:
    used = {tag for _, _, operation in operations(document) for tag in operation["tags"]}
    known = [tag for tag in words.TAGS if tag in used]
    return [{"name": tag, "description": words.TAGS[tag]} for tag in known] + [
        {"name": tag, "description": tag} for tag in sorted(used - set(known))
    ]


def _webhooks() -> dict[str, Any]:
    def posted(title: str, text: str, model: str) -> dict[str, Any]:
        body = {"required": True, "content": _json(model)}
        taken = {"2XX": {"description": "Taken. Anything else, and no answer in 15 seconds, is tried again later"}}
        return {
            "post": {
                "tags": ["Webhooks"],
                "operationId": f"receive_{model.lower()}",
                "summary": title,
                "description": text,
                "requestBody": body,
                "responses": taken,
            }
        }

    return {
        "status": posted(
            "A message's status",
            "Posted to `webhook_url_status` at each change to sent, delivered, failed or cancelled, and to the "
            "message's own `callback_url` once, when it is delivered or has failed.",
            "StatusEvent",
        ),
        "incoming": posted(
            "A received SMS", "Posted to `webhook_url_incoming` when a phone received an SMS.", "IncomingEvent"
        ),
    }


def _exemplify(key: str, path: str, operation: Operation, schemas: dict[str, Any], sentence: str) -> None:
    """Examples for parameters, body and answers, and the request as code."""
    for parameter in operation.get("parameters", []):
        if parameter["in"] == "path":
            parameter["example"] = str(PARAMETERS[parameter["name"]])
            parameter["description"] = words.PATH_PARAMETERS[parameter["name"]]
    body = None
    if "requestBody" in operation:
        media = operation["requestBody"]["content"]["application/json"]
        body = BODIES[key] if key in BODIES else example_of(media["schema"], schemas)
        model = schemas.get(media["schema"].get("$ref", "").rpartition("/")[2], {})
        operation["requestBody"]["required"] = bool(model.get("required")) or media["schema"].get("type") == "array"
        media["example"] = body
    for status, response in operation["responses"].items():
        media = response.get("content", {}).get("application/json")
        if media and status.startswith("2"):
            media["example"] = example_of(media["schema"], schemas, sentence=sentence)
    operation["x-codeSamples"] = samples(_request(key, path, operation, body))


def _request(key: str, path: str, operation: Operation, body: Any) -> Request:
    headers = {"Accept": "application/json"}
    if operation.get("security"):
        headers["Authorization"] = f"Bearer {TOKEN}"
    if body is not None:
        headers["Content-Type"] = "application/json"
    status, response = next(item for item in operation["responses"].items() if item[0].startswith("2"))
    media = next(iter(response.get("content", {})), "")
    if status == "204":
        answer = "nothing"
    else:
        answer = "json" if media == "application/json" else "file"
        headers["Accept"] = media
    values = {name: value for name, value in PARAMETERS.items() if f"{{{name}}}" in path}
    url = f"{HOST}{filled(path, values)}"
    return Request(key.partition(" ")[0], url, headers, body, answer)  # type: ignore[arg-type]  # one of the three


def _link(document: dict[str, Any]) -> None:
    """From what was made to what can be done with it: `POST /api/contacts` to everything at `/api/contacts/{…}`."""
    for path, item in document["paths"].items():
        made = item.get("post", {}).get("responses", {}).get("201")
        if made is None:
            continue
        links = {}
        for _, other, operation in operations(document):
            rest = other.removeprefix(f"{path}/")
            name = rest.partition("/")[0]
            if rest != other and name.startswith("{"):
                values = {name.strip("{}"): "$response.body#/data/id"}
                links[operation["operationId"]] = {"operationId": operation["operationId"], "parameters": values}
        if links:
            made["links"] = links
