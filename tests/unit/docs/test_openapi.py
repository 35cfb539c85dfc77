"""The document is valid, whole, and says the same as its own examples and as the routes' code."""

import inspect
import json
import re
from typing import Any

import pytest
from fastapi.routing import iter_route_contexts
from jsonschema import Draft202012Validator
from openapi_spec_validator import OpenAPIV31SpecValidator

from app.devices.askers import account_of
from app.docs import refusals, words
from app.docs.examples import BODIES, FIELDS, PARAMETERS
from app.docs.openapi import describe, operations
from app.main import create_api
from app.messages.accepting.sending import Sending
from app.mobile.calls import PhoneCalls

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
        assert "Needs the ability `" in told["description"]
        assert "403" in told["responses"]


def test_a_sentence_in_an_answer_is_that_of_the_code() -> None:
    code = {
        f"{m} {r.path}": r.original_route.endpoint for r in iter_route_contexts(API.routes) for m in r.methods or ()
    }
    for key, operation in OPERATIONS.items():
        media = next(iter(operation["responses"].values())).get("content", {}).get("application/json", {})
        sentence = media.get("example", {}).get("message") if isinstance(media.get("example"), dict) else None
        if sentence and "success" in media["example"] and key != "POST /api/sms/bulk":
            pattern = re.sub(r"\d+", r"(\\d+|\\{.*?\\})", re.escape(sentence))
            assert re.search(f'message=f?"{pattern}"', inspect.getsource(code[key])), (key, sentence)


def test_no_table_speaks_of_what_there_is_not() -> None:
    schemas = DOCUMENT["components"]["schemas"]
    parameters = {each["name"] for told in OPERATIONS.values() for each in told.get("parameters", ())}
    places = {f"{model}.{field}" for model, schema in schemas.items() for field in schema.get("properties", ())}
    assert set(words.TITLES) <= set(OPERATIONS)
    assert set(refusals.SPECIAL) <= set(OPERATIONS)
    assert set(BODIES) <= set(OPERATIONS)
    assert (
        set(PARAMETERS)
        == set(words.PATH_PARAMETERS)
        == {each["name"] for told in OPERATIONS.values() for each in told.get("parameters", ()) if each["in"] == "path"}
    )
    assert {name for name in words.FIELDS if "." in name} <= places
    assert {name for name in words.FIELDS if "." not in name} <= parameters
    fields = {place.partition(".")[2] for place in places}
    assert {name for name in FIELDS if "." in name} <= places
    assert {name for name in FIELDS if "." not in name} <= fields


def test_it_names_no_host_but_the_placeholder() -> None:
    hosts = set(re.findall(r"https?://([^/\"'\s)\\]+)", json.dumps(DOCUMENT)))
    assert hosts == {"sms.example.com", "app.example", "www.standardwebhooks.com", "www.w3.org"}


def test_nothing_in_an_example_reaches_a_stranger() -> None:
    """555-0100 to 555-0199 belong to nobody, and a request sent from the page calls no URL back."""
    numbers = set(re.findall(r"\+\d{7,15}", json.dumps([BODIES, dict(FIELDS)])))
    assert numbers
    assert all(re.fullmatch(r"\+120255501\d\d", number) for number in numbers)
    sends = [body for key, body in BODIES.items() if key.startswith("POST /api/sms")]
    assert not any("callback_url" in body for body in sends)
