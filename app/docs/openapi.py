"""The OpenAPI document: what the routes say of themselves, made complete and true.

FastAPI does not know the bodies that are read by hand, nor the refusals that
every operation shares; its schemas are made exact (`tidy`), and every operation gets its examples and code.
"""

from collections.abc import Iterator
from importlib import import_module
from importlib.metadata import version
from typing import Any

from fastapi import FastAPI
from fastapi.dependencies.models import Dependant
from fastapi.openapi.utils import get_openapi
from fastapi.routing import iter_route_contexts
from pydantic import BaseModel
from starlette.routing import BaseRoute

from app.accounts.auth import Need
from app.core.dependencies import Large
from app.core.links import EXAMPLE_URL
from app.docs import refusals, shapes, words
from app.docs.instances import body_of, example_of
from app.docs.samples import TOKEN, Request, filled, samples
from app.docs.tidy import inline_parameters, tidy
from app.features import PACKAGES
from app.files.uploads import LargeOrFile

Operation = dict[str, Any]

METHODS = ("get", "post", "put", "patch", "delete")
_WITH_BODY = ("post", "put", "patch", "delete")
_UNSAID = "Successful Response"  # FastAPI's own words
_DESCRIPTIONS = {"200": "OK", "201": "Created", "204": "No content"}
_WITHOUT_DATABASE = {"GET /health/live", "GET /health/ready", "GET /api/mobile/v1/device"}


def describe(app: FastAPI) -> dict[str, Any]:
    """The document of an application. Addresses in it begin with `EXAMPLE_URL`."""
    routes = [*app.routes, *described_routes()]
    document = get_openapi(
        title=words.TITLE,
        version=version("smsfleet"),
        openapi_version="3.1.0",
        summary=words.SUMMARY,
        description=words.INTRODUCTION,
        routes=routes,
        servers=[{"url": EXAMPLE_URL}],
    )
    document["paths"] = {path: _in_order(item) for path, item in document["paths"].items()}
    components = document["components"]
    needs, bodies = _dependencies(routes, Need), _dependencies(routes, Large)
    models: dict[str, type[BaseModel]] = {key: large.model for key, large in bodies.items()}
    components["schemas"].update(shapes.schemas(models.values()))
    for key, _, operation in operations(document):
        if key in models:
            files = shapes.FILES if isinstance(bodies[key], LargeOrFile) else {}
            operation["requestBody"] = {"required": True, "content": {**_json(models[key].__name__), **files}}
        _complete(key, operation, needs.get(key))
    _name_operations(document)
    document["webhooks"] = _webhooks()
    inline_parameters(document)
    components["schemas"].update(refusals.SCHEMAS)
    components["responses"] = refusals.RESPONSES
    document["tags"] = _tags(document)
    document = tidy(document)
    for key, path, operation in operations(document):
        _exemplify(key, path, operation, document["components"]["schemas"])
    _link(document)
    return document


def operations(document: dict[str, Any]) -> Iterator[tuple[str, str, Operation]]:
    """Every operation, with its key (`POST /api/sms`) and its path."""
    for path, item in document["paths"].items():
        for method in METHODS:
            if method in item:
                yield f"{method.upper()} {path}", path, item[method]


def described_routes() -> Iterator[BaseRoute]:
    """Calls that no framework answers, as their features describe them."""
    for package in PACKAGES:
        for module in package.routes:
            router = getattr(import_module(f"app.{package.name}.{module}"), "described", None)
            yield from router.routes if router else ()


def _in_order(item: dict[str, Any]) -> dict[str, Any]:
    return {method: item[method] for method in METHODS if method in item}


def _dependencies(routes: list[BaseRoute], kind: type[Any]) -> dict[str, Any]:
    """The dependency of this kind that each operation has, where it has one."""
    found = {}
    for route in iter_route_contexts(routes):
        original = route.original_route
        for call in _calls(getattr(original, "dependant", None)):
            if isinstance(call, kind):
                found.update({f"{method} {route.path}": call for method in getattr(original, "methods", None) or ()})
    return found


def _calls(dependant: Dependant | None) -> Iterator[Any]:
    for inner in dependant.dependencies if dependant else ():
        yield inner.call
        yield from _calls(inner)


def _complete(key: str, operation: Operation, need: Need | None) -> None:
    """Title, needs and refusals."""
    operation["summary"] = operation["summary"].capitalize() if operation["summary"].istitle() else operation["summary"]
    if need is not None:
        plan = f" and the plan's feature `{need.feature}`" if need.feature else ""
        operation["description"] = f"{operation['description']}\n\nRequires the ability `{need.ability}`{plan}."
    for status, response in operation["responses"].items():
        if response["description"] == _UNSAID:
            response["description"] = _DESCRIPTIONS.get(status, _UNSAID)
    _refuse(key, operation, need)


def _json(model: str) -> dict[str, Any]:
    return {"application/json": {"schema": {"$ref": f"#/components/schemas/{model}"}}}


def _refuse(key: str, operation: Operation, need: Need | None) -> None:
    """Every refusal: those that the route names, and those that follow from what it takes and needs."""
    method = key.partition(" ")[0].lower()
    parameters = operation.get("parameters", [])
    said = operation["responses"]
    responses = {status: response for status, response in said.items() if not refusals.is_refusal(status, response)}
    statuses = {status for status in said.keys() - responses.keys() if not refusals.is_of_framework(said[status])}
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
    refused = {status: refusals.response(status, said.get(status, {}), parameters) for status in sorted(statuses)}
    operation["responses"] = {**refused, **responses} if "503" in responses else {**responses, **refused}


def _name_operations(document: dict[str, Any]) -> None:
    """Short ids for programs that generate clients: `sms_send`, `contacts_list_groups`."""
    taken: set[str] = set()
    for key, path, operation in operations(document):
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
    return [{"name": each.tag, "description": each.about} for each in PACKAGES if each.tag in used]


def _webhooks() -> dict[str, Any]:
    def posted(title: str, text: str, model: str) -> dict[str, Any]:
        body = {"required": True, "content": _json(model)}
        accepted = {"2XX": {"description": "Accepted. Any other response, or none within 15 seconds, is retried"}}
        return {
            "post": {
                "tags": ["Webhooks"],
                "operationId": f"receive_{model.lower()}",
                "summary": title,
                "description": text,
                "requestBody": body,
                "responses": accepted,
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
        "device": posted(
            "A phone's state",
            "Posted to `webhook_url_status` when a phone goes offline, fails or goes quiet, and when it recovers, if "
            "the setting `device_events` is on.",
            "DeviceEvent",
        ),
        "opted_out": posted("Somebody opted out", _OPTED.format("opted out"), "OptedOutEvent"),
        "opted_in": posted("Somebody opted in again", _OPTED.format("opted in again"), "OptedInEvent"),
        "campaign": posted(
            "A campaign that paused or finished",
            "Posted to `webhook_url_status` when a campaign pauses by itself or finishes.",
            "CampaignEvent",
        ),
    }


_OPTED = (
    "Posted to `webhook_url_incoming` when somebody {} by a keyword, if the setting `events` of "
    "`PUT /api/opt-outs/settings` is on."
)


def _exemplify(key: str, path: str, operation: Operation, schemas: dict[str, Any]) -> None:
    """Examples for parameters, body and answers, and the request as code."""
    for parameter in operation.get("parameters", []):
        if parameter["in"] == "path":
            parameter["example"] = parameter["schema"].pop("examples")[0]
    body = None
    if "requestBody" in operation:
        media = operation["requestBody"]["content"]["application/json"]
        body = body_of(media["schema"], schemas)
        model = schemas.get(media["schema"].get("$ref", "").rpartition("/")[2], {})
        operation["requestBody"]["required"] = bool(model.get("required")) or media["schema"].get("type") == "array"
        media["example"] = body
    for status, response in operation["responses"].items():
        media = response.get("content", {}).get("application/json")
        if media and status.startswith("2"):
            media["example"] = example_of(media["schema"], schemas, sentence=response["description"])
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
    values = {each["name"]: each["example"] for each in operation.get("parameters", ()) if each["in"] == "path"}
    url = f"{EXAMPLE_URL}{filled(path, values)}"
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
