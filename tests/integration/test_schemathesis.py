"""Schemathesis reads the document and tries every operation: examples, edge values, noise, and sequences of calls.

Seeds are fixed, so a run can be repeated. Whatever is answered must be in the document, and never a 500.
"""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, settings

from app.core.bodies import XLSX_TYPE
from app.docs.openapi import describe
from app.main import create_api
from tests.conftest import Servers, empty
from tests.integration.conftest import Account, Gateway
from tests.integration.docs.world import World, build, folder_for_releases, publish_file

# A stream has no end.
ENDLESS = "phones_events"
# Signing out ends what all calls of a sequence need; a test webhook would go wherever a call before it said.
ENDS_A_SEQUENCE = ("accounts_logout", "webhooks_test")
EXAMPLES_EACH = 6
SEQUENCES, STEPS = 20, 6
CONFIGURATION = {
    "seed": 2026,
    "checks": {
        # A well-formed request may still be refused: a number that is taken, a date before another, no such thing.
        "positive_data_acceptance": {"enabled": False},
        # More is taken than the document asks for: numbers and booleans as text, as forms send them; a blank or a
        # missing body for none; fields that nobody knows; a page that is no number for the first.
        "negative_data_rejection": {"enabled": False},
    },
    "operations": [
        # Not configured in tests, which is told by a 503.
        {
            "include-operation-id": operation,
            "checks": {"not_a_server_error": {"expected-statuses": ["2xx", "4xx", "503"]}},
        }
        for operation in ("accounts_login_with_google", "accounts_forgot_password", "accounts_send_email_code")
    ],
}


def strict_document() -> dict[str, Any]:
    """The document, whose answers may have no field besides those that it names."""
    document = copy.deepcopy(describe(create_api()))
    for schema in document["components"]["schemas"].values():
        if "properties" in schema:
            schema["additionalProperties"] = False
    for operation in (op for item in document["paths"].values() for op in item.values()):
        body = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema", {})
        model = document["components"]["schemas"].get(body.get("$ref", "").rpartition("/")[2], {})
        model.pop("additionalProperties", None)
    return document


@schemathesis.serializer(XLSX_TYPE)
def as_workbook(_: schemathesis.SerializationContext, value: Any) -> bytes:
    """What begins as a workbook, and is none."""
    return b"PK\x03\x04" + repr(value).encode("utf-8", "replace")


schema = schemathesis.openapi.from_dict(strict_document(), config=schemathesis.Config.from_dict(CONFIGURATION)).exclude(
    operation_id=ENDLESS
)


class Kept:
    """The world that calls which only read have left as it was."""

    world: World | None = None


@pytest.fixture
def world(request: pytest.FixtureRequest, gateway: Gateway, configured: Callable[..., None], tmp_path: Path) -> World:
    folder_for_releases(configured, tmp_path)
    if Kept.world is None or not is_there(gateway, Kept.world):
        fresh = (request.getfixturevalue(name) for name in ("api", "sql", "ali"))
        Kept.world = build(*fresh)
    else:
        publish_file()
    return Kept.world


def is_there(gateway: Gateway, world: World) -> bool:
    """Whether no other test has emptied the database since."""
    return httpx.get(f"{gateway.url}/api/user", headers=world.owner).is_success


REPEATABLE = settings(
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.explicit, Phase.generate],
)


def headers_of(case: schemathesis.Case, world: World) -> dict[str, str]:
    asked = [name for each in case.operation.definition.raw.get("security", []) for name in each]
    return {"token": world.owner, "device": world.phone}[asked[0]] if asked else {}


@schema.parametrize()
@settings(REPEATABLE, max_examples=EXAMPLES_EACH)
def test_every_answer_is_in_the_document(case: schemathesis.Case, gateway: Gateway, world: World) -> None:
    if case.operation.method.upper() != "GET":
        Kept.world = None
    case.call_and_validate(base_url=gateway.url, headers=headers_of(case, world))


def test_so_is_every_answer_in_a_sequence_of_calls(
    gateway: Gateway,
    database: Servers,
    api: httpx.Client,
    sql: psycopg.Connection,
    new_account: Callable[..., Account],
    configured: Callable[..., None],
    tmp_path: Path,
) -> None:
    """Calls follow the document's links: what was made is shown, changed, deleted, and asked for again.

    Each sequence begins in a world of its own: what is drawn next depends on the answers before, and Hypothesis wants
    the same answers to the same calls.
    """
    Kept.world = None
    folder_for_releases(configured, tmp_path)
    alone = schema.exclude(operation_id=list(ENDS_A_SEQUENCE))

    class Sequences(alone.as_state_machine()):  # type: ignore[misc]
        def setup(self) -> None:
            empty(database)
            self.world = build(api, sql, new_account())

        def get_call_kwargs(self, case: schemathesis.Case) -> dict[str, Any]:
            return {"base_url": gateway.url, "headers": headers_of(case, self.world)}

    Sequences.run(settings=settings(REPEATABLE, max_examples=SEQUENCES, stateful_step_count=STEPS))
