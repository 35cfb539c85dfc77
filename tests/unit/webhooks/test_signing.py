"""Signatures, checked by the specification's library and by the programs shown to owners of receivers."""

import base64
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks import Webhook, WebhookVerificationError

from app.webhooks import signing

DOCUMENT = Path(__file__).parents[3] / "docs" / "using" / "webhooks.md"
BODY = '{"event":"status","data":{"message":"Süß ✓"},"timestamp":"2026-06-08T10:00:05.000000Z"}'


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=200), st.text("abcdef0123456789-", min_size=1))
def test_the_library_verifies_what_is_signed(body, webhook_id) -> None:
    secret, other = signing.new_secret(), signing.new_secret()
    headers = signing.headers(webhook_id, body, [secret])
    Webhook(secret).verify(body.encode(), headers, json_parse=False)
    with pytest.raises(WebhookVerificationError):
        Webhook(other).verify(body.encode(), headers, json_parse=False)
    both = signing.headers(webhook_id, body, [other, secret])
    assert len(both["webhook-signature"].split()) == 2
    for one in (secret, other):
        Webhook(one).verify(body.encode(), both, json_parse=False)


def test_a_secret_is_spelled_as_the_specification_says_and_never_the_same() -> None:
    made = {signing.new_secret() for _ in range(100)}
    assert len(made) == 100
    assert all(len(base64.b64decode(secret.removeprefix("whsec_"))) == 32 for secret in made)


def test_the_time_signed_is_now() -> None:
    assert abs(int(signing.headers("x", BODY, [signing.new_secret()])["webhook-timestamp"]) - time.time()) < 2


@pytest.mark.parametrize(
    ("language", "command"),
    [
        ("python", [sys.executable]),
        pytest.param("javascript", ["node"], marks=pytest.mark.needs_node),
        pytest.param("php", ["php"], marks=pytest.mark.needs_php),
    ],
)
def test_the_programs_in_the_documentation_verify(language, command, tmp_path) -> None:
    [program] = re.findall(rf"```{language}\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)
    # .cjs: what the program is must not depend on a package.json somewhere above.
    path = tmp_path / {"python": "verify.py", "javascript": "verify.cjs", "php": "verify.php"}[language]
    path.write_text(program)
    secret, previous = signing.new_secret(), signing.new_secret()

    def says(known: str, body: str = BODY, **changed: str) -> str:
        headers = signing.headers("msg-1", BODY, [secret, previous]) | {
            k.replace("_", "-"): v for k, v in changed.items()
        }
        environment = {name.upper().replace("-", "_"): text for name, text in headers.items()}
        done = subprocess.run(
            [*command, str(path)],
            input=body.encode(),
            env={"PATH": "/usr/local/bin:/usr/bin:/bin", "SECRET": known, **environment},
            capture_output=True,
            check=True,
        )
        return done.stdout.decode().strip()

    assert says(secret) == "valid"
    assert says(previous) == "valid"
    assert says(signing.new_secret()) == "not valid"
    assert says(secret, BODY + " ") == "not valid"
    assert says(secret, webhook_id="msg-2") == "not valid"
    assert says(secret, webhook_timestamp=str(int(time.time()) - 400)) == "not valid"
