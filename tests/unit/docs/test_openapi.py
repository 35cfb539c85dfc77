"""The document is valid, whole, and says the same as its own examples and as the routes' code."""

import inspect
import json
import re
from typing import Any, get_args

import pytest
from fastapi.routing import iter_route_contexts
from jsonschema import Draft202012Validator
from openapi_spec_validator import OpenAPIV31SpecValidator

from app.core import refusals
from app.devices.callers import account_of
from app.docs import llms
from app.docs.openapi import describe, described_routes, operations
from app.main import create_api
from app.messages.accepting.sending import Sending
from app.mobile.calls import PhoneCalls
from app.webhooks.outbox import EventName

API = create_api()
DOCUMENT = describe(API)
OPERATIONS = {key: operation for key, _, operation in operations(DOCUMENT)}
# Spellings of a path that the app is known to use, beside the one in the document.
ALIASES = {("GET", "/api/mobile/v1/messages"), ("PATCH", "/api/mobile/v1/messages")}


def fits(value: Any, schema: dict[str, Any]) -> list[str]:
    whole = {**schema, "components": DOCUMENT["components"]}
    return [error.message for error in Draft202012Validator(whole).iter_errors(value)]


def test_it_is_valid() -> None:
    assert [error.message for error in OpenAPIV31SpecValidator(DOCUMENT).iter_errors()] == []


def test_every_route_is_in_it() -> None:
    routes = [route for route in iter_route_contexts(API.routes) if getattr(route, "include_in_schema", True)]
    served = {(method, route.path) for route in routes for method in route.methods or ()}
    calls = [*Sending(account_of).calls, *PhoneCalls(None, account_of).calls]
    hot = {(call.method, call.path) for call in calls if call.path.startswith("/api")} - ALIASES
    described = {tuple(key.split(" ")) for key in OPERATIONS}
    hidden = {
        ("GET", "/metrics"),
        *((method, path) for method, path in served if not path.startswith(("/api", "/health"))),
    }
    assert (served | hot) - hidden == described


@pytest.mark.parametrize("key", OPERATIONS)
def test_an_operation_is_explained(key: str) -> None:
    operation = OPERATIONS[key]
    assert operation["summary"]
    assert operation["description"]
    assert all(parameter["description"] for parameter in operation.get("parameters", ())), key
    assert [sample["label"] for sample in operation["x-codeSamples"]] == ["curl", "JavaScript", "PHP", "Python"]
    assert {"2", "4", "5"} & {status[0] for status in operation["responses"]}


@pytest.mark.parametrize("key", OPERATIONS)
def test_its_examples_fit_its_schemas(key: str) -> None:
    operation = OPERATIONS[key]
    if "requestBody" in operation:
        media = operation["requestBody"]["content"]["application/json"]
        assert fits(media["example"], media["schema"]) == []
    for status, response in operation["responses"].items():
        told = (
            DOCUMENT["components"]["responses"][response["$ref"].rpartition("/")[2]] if "$ref" in response else response
        )
        for media in told.get("content", {}).values():
            examples = [each["value"] for each in media.get("examples", {}).values()]
            examples += [media["example"]] if "example" in media else []
            for example in examples:
                assert fits(example, media["schema"]) == [], status


@pytest.mark.parametrize("key", OPERATIONS)
def test_what_it_answers_is_shown(key: str) -> None:
    for status, told in OPERATIONS[key]["responses"].items():
        if status.startswith("2"):
            assert told["description"] != "Successful Response"
            assert all("example" in media for media in told.get("content", {}).values()), status


@pytest.mark.parametrize("key", [key for key, told in OPERATIONS.items() if told.get("security")])
def test_what_needs_a_token_says_so(key: str) -> None:
    told = OPERATIONS[key]
    assert "401" in told["responses"]
    if told["security"] == [{"token": []}] and key != "POST /api/logout":
        assert "Requires the ability `" in told["description"]
        assert "403" in told["responses"]


def test_the_message_of_an_answer_is_the_description_of_it() -> None:
    described = {
        f"{method} {route.path}": (route.original_route.response_description, route.original_route.endpoint)
        for route in iter_route_contexts([*API.routes, *described_routes()])
        for method in route.methods or ()
    }
    for key, operation in OPERATIONS.items():
        response = next(iter(operation["responses"].values()))
        example = response.get("content", {}).get("application/json", {}).get("example")
        if isinstance(example, dict) and example.get("success") and "message" in example:
            assert example["message"] == response["description"] != "Successful Response", key
            sentence, endpoint = described[key]
            source = inspect.getsource(endpoint)
            assert not re.search(r'message=f?"', source), f"{key}: a constant, which the decorator names too"
            assert sentence == example["message"] or key == "POST /api/sms/bulk"
            if key not in {"POST /api/sms", "POST /api/sms/bulk"}:  # written by hand
                named = set(re.findall(r"message=([A-Z_]+)", source))
                assert len(named) == 1, key
                assert named <= set(re.findall(r"response_description=([A-Z_]+)", source)), key


def test_schemas_have_short_names_and_titles_that_no_other_has() -> None:
    schemas = DOCUMENT["components"]["schemas"]
    assert all(re.fullmatch(r"[A-Za-z0-9]+", name) for name in schemas)
    titles = [schema["title"] for schema in schemas.values() if "title" in schema]
    assert len(titles) == len(set(titles))
    summaries = [operation["summary"] for operation in OPERATIONS.values()]
    assert sorted({each for each in summaries if summaries.count(each) > 1}) == []


def test_every_webhook_is_documented() -> None:
    assert set(DOCUMENT["webhooks"]) == set(get_args(EventName))
    for name, item in DOCUMENT["webhooks"].items():
        model = item["post"]["requestBody"]["content"]["application/json"]["schema"]["$ref"].rpartition("/")[2]
        assert DOCUMENT["components"]["schemas"][model]["properties"]["event"]["const"] == name


def test_a_refusal_of_a_routes_own_is_shown_with_its_code() -> None:
    def shown(key: str, status: str) -> list[dict[str, Any]]:
        media = OPERATIONS[key]["responses"][status]["content"]["application/json"]
        return [each["value"] for each in media["examples"].values()]

    assert {"success": False, "message": refusals.ONLY_PENDING.sentence} in shown(
        "POST /api/sms/{message}/cancel", "422"
    )
    retried = {"success": False, "message": refusals.STILL_HELD.sentence, "reason_code": "still_held"}
    assert retried in shown("POST /api/sms/{message}/retry", "422")
    assert shown("GET /api/tokens/{key_id}".replace("GET", "DELETE"), "404") == [
        {"success": False, "message": "No query results for model [PersonalAccessToken]."}
    ]


def test_the_text_for_language_models_has_the_sentences_of_refusals() -> None:
    assert "422 (`Only failed messages can be sent again`, `A phone was given" in llms.full(DOCUMENT)


def test_it_names_no_host_but_the_placeholder() -> None:
    hosts = set(re.findall(r"https?://([^/\"'\s)\\]+)", json.dumps(DOCUMENT)))
    assert hosts == {"sms.example.com", "app.example", "www.standardwebhooks.com", "www.w3.org"}


def test_nothing_in_an_example_reaches_a_stranger() -> None:
    """555-0100 to 555-0199 belong to nobody, and a request sent from the page calls no URL back."""
    numbers = set(re.findall(r"\+\d{7,15}", json.dumps(DOCUMENT)))
    assert numbers
    assert all(re.fullmatch(r"\+120255501\d\d", number) for number in numbers)
    sends = [OPERATIONS[key]["requestBody"] for key in ("POST /api/sms", "POST /api/sms/bulk")]
    assert not any("callback_url" in body["content"]["application/json"]["example"] for body in sends)
