"""Whatever is typed into a form or an address: an answer that says what is wrong, never a fault of ours."""

import re
from urllib.parse import quote

import httpx
import pytest
from fastapi.routing import iter_route_contexts

from app.core.validation import Body
from app.main import create_api
from app.web.static import HERE
from tests.integration.web.test_safety import browser, forms, token_of
from tests.support.messages_of import add_message, add_phone

HOSTILE = {
    "long": "A" * 20_000,
    "lines": "a\r\nSet-Cookie: evil=1\r\n\r\n<script>",
    "controls": "\x01\x1b]0;x\x07\x7f",
    "half": "\ud800",
    "nothing": "\0",
    "number": "9" * 30,
    "negative": "-1",
    "fraction": "1e308",
    "digits of others": "\u0661\u0662",
    "beyond time": "9999-12-31T23:59",
    "before time": "0001-01-01T00:00",
    "wildcards": "%_\\" * 50,
    "placeholder": "{" * 2000 + "}" * 2000,
    "formula": "=1+1",
}
SHAPES = ("{}", "{}[]", "{}[x][y]", "{}[0]")


def fields():
    """The names of what any form may have: those of its schemas, and of what its template has besides."""
    texts = [path.read_text() for path in (HERE / "templates").glob("*.html")]
    names = {name for text in texts for name in re.findall(r'name="([a-z_]+)', text)}
    models = [Body]
    while models:
        model = models.pop()
        models += model.__subclasses__()
        names |= model.model_fields.keys()
    return sorted(names - {"form_token", "model"})


def encoded(pairs):
    return "&".join(f"{quote(name)}={quote(value, errors='surrogatepass')}" for name, value in pairs).encode()


@pytest.fixture
def filled(gateway, ali, sql):
    """A row of most kinds, so that forms have something to speak of."""
    sql.execute("UPDATE users SET is_operator = true")
    add_message(sql, ali, device_id=add_phone(sql, ali, default=True))
    with httpx.Client(base_url=gateway.url, headers=ali.headers) as client:
        for path, body in {
            "/api/contact-groups": {"name": "x"},
            "/api/contacts": {"phone_number": "+998901112233"},
            "/api/campaigns": {"name": "x", "message": "x"},
            "/api/templates": {"name": "x", "message": "x"},
        }.items():
            assert client.post(path, json=body).status_code == 201, path


def mixed(names, values, turn):
    """Fields as a form sends them: each has another of the values in each turn, and some are lists and objects."""
    for place, name in enumerate(names):
        shape = SHAPES[(place + turn) % 7] if (place + turn) % 7 < len(SHAPES) else "{}"
        yield shape.format(name), values[(place + 3 * turn) % len(values)]


@pytest.mark.parametrize("turn", range(3))
def test_forms(gateway, ali, filled, turn):
    """All fields of all forms come with every form."""
    kept = {"/sign-out", "/settings/delete", "/settings/sessions/end"}
    names, values = fields(), list(HOSTILE.values())
    assert len(names) > 60
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    found = []
    with browser(gateway, ali) as client:
        sent = encoded([("form_token", token_of(client, "/settings")), *mixed(names, values, turn)])
        for path in sorted(set(forms()) - kept):
            answer = client.post(re.sub(r"\{[\w:]+\}", "1", path), content=sent, headers=headers)
            if answer.status_code >= 500 or "evil" in answer.headers.get("set-cookie", ""):
                found.append((path, answer.status_code))
    assert found == []


@pytest.mark.parametrize("turn", range(3))
def test_addresses(gateway, ali, filled, turn):
    names = sorted({*fields(), "next", "done", "after", "before", "cursor", "add", "page", "per_page", "bom", "format"})
    values = [value for kind, value in HOSTILE.items() if kind != "long"]
    query = encoded(mixed(names, [value[:200] for value in values], turn)).decode()
    routes = iter_route_contexts(create_api().routes)
    paths = {route.path for route in routes if "GET" in (route.methods or ())}
    found = []
    with browser(gateway, ali) as client:
        for path in sorted(path for path in paths if not path.startswith(("/api", "/flower"))):
            for row in ("1", quote(values[turn], errors="surrogatepass")):
                answer = client.get(f"{re.sub(r'{[^}]+}', row, path)}?{query}")
                if answer.status_code >= 500:
                    found.append((path, row, answer.status_code))
    assert found == []


def test_a_secret_that_no_qr_code_holds(gateway, ali, database):
    with browser(gateway, ali) as client:
        form = {"form_token": token_of(client, "/settings"), "secret": "A" * 100_000, "code": "123456"}
        answer = client.post("/settings/second-factor", data=form)
    assert answer.status_code == 422
    assert "A" * 100 not in answer.text
