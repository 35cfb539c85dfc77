"""Whatever is wrong with a request, the answer is the JSON envelope."""

import json
import socket

import httpx
import pytest

from tests.support.waiting import until

UNREADABLE = "The request body is not valid JSON."


def envelope(message: str, **more: object) -> dict[str, object]:
    return {"success": False, "message": message, **more}


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "Bearer"},
        {"Authorization": "Bearer nonsense"},
        {"Authorization": "Bearer 1|"},
        {"Authorization": "Bearer |secret"},
        {"Authorization": "Bearer 99999999999999999999|secret"},
        {"Authorization": "Bearer \u0661|secret".encode()},
        {"Authorization": "Basic dXNlcjpwYXNz"},
    ],
)
def test_no_token_and_no_such_token(api, ali, headers):
    answer = api.get("/api/user", headers=headers)
    assert (answer.status_code, answer.json()) == (401, envelope("Unauthenticated."))


def test_scheme_in_any_case(api, ali):
    token = ali.headers["Authorization"].removeprefix("Bearer ")
    assert api.get("/api/user", headers={"Authorization": f"bearer  {token}"}).status_code == 200


def test_unknown_path(api):
    answer = api.get("/api/x/y")
    assert (answer.status_code, answer.json()) == (404, envelope("The route api/x/y could not be found."))


def test_wrong_method_names_the_right_ones(api):
    answer = api.put("/api/tokens")
    assert answer.status_code == 405
    assert answer.json() == envelope(
        "The PUT method is not supported for route api/tokens. Supported methods: GET, HEAD, POST."
    )
    assert answer.headers["Allow"] == "GET, HEAD, POST"
    assert api.get("/api/login").headers["Allow"] == "POST"


def test_401_comes_before_the_body_is_judged(api, ali):
    assert api.post("/api/tokens", content=b"{").status_code == 401
    answer = api.post("/api/tokens", content=b"{", headers=ali.headers)
    assert answer.status_code == 422
    assert answer.json() == envelope(UNREADABLE, errors={"body": [UNREADABLE]})


@pytest.mark.parametrize("body", [b"{", b"nope", b'{"a": NaN}', b'{"a": Infinity}', b"\xff", b'{"a": 1' + b"0" * 5000])
def test_unreadable_json(api, body):
    answer = api.post("/api/login", content=body, headers={"Content-Type": "application/json"})
    assert (answer.status_code, list(answer.json()["errors"])) == (422, ["body"])


@pytest.mark.parametrize("body", [b"[]", b'"text"', b"5", b"null", b"true"])
def test_json_that_is_no_object(api, body):
    answer = api.post("/api/login", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 422
    assert answer.json()["errors"] in (
        {"body": ["The request body must be a JSON object."]},
        {"body": ["The body field is required."]},
    )


@pytest.mark.parametrize("opening", [b"[", b'{"a":'])
@pytest.mark.parametrize("depth", [40, 900, 200_000])
def test_deep_nesting(api, ali, opening, depth):
    closing = b"]" if opening == b"[" else b"}"
    body = b'{"email": ' + opening * depth + b"1" + closing * depth + b"}"
    if len(body) > 1_000_000:
        body = body[:1_000_000]
    answer = api.post("/api/login", content=body, headers={"Content-Type": "application/json", **ali.headers})
    assert (answer.status_code, list(answer.json()["errors"])) == (422, ["body"])


def test_text_that_cannot_be_stored_names_its_field(api):
    body = b'{"email": "\xff@b.c", "password": "\\u0000", "name": "\\ud83d", "nested": {"list": [{"deep": "\\uDC00"}]}}'
    answer = api.post("/api/register", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 422
    assert list(answer.json()["errors"]) == ["email", "password", "name", "nested.list.0.deep"]
    assert answer.json()["errors"]["email"] == ["The email field contains invalid characters."]


def test_surrogate_pairs_are_text(api):
    body = b'{"email": "a@b.c", "name": "\\ud83d\\ude00", "password": "secret", "password_confirmation": "secret"}'
    answer = api.post("/api/register", content=body, headers={"Content-Type": "application/json"})
    assert (answer.status_code, answer.json()["data"]["user"]["name"]) == (201, "😀")


def test_field_name_that_cannot_be_stored(api):
    answer = api.post("/api/login", content=b'{"\\ud800": 1}', headers={"Content-Type": "application/json"})
    assert (answer.status_code, list(answer.json()["errors"])) == (422, ["body"])


def test_nul_in_path_and_query(api, ali):
    assert api.delete("/api/tokens/%00", headers=ali.headers).status_code == 404
    assert api.get("/api/user?x=%00").status_code == 401
    assert api.get("/api/user?x=%00", headers=ali.headers).status_code == 200
    assert api.get("/api/nothing?x=%00").status_code == 404
    assert api.post("/api/login?x=%00", json={}).json()["message"] == "The email field is required. (and 1 more error)"


@pytest.mark.parametrize(
    ("path", "names"),
    [
        ("/api/sms", ["direction", "status", "device_id", "number", "my_id", "from", "to", "search", "cursor"]),
        ("/api/contacts", ["search", "group_id"]),
        ("/api/contacts/export", ["search", "group_id"]),
        ("/api/contact-groups", ["search"]),
        ("/api/webhooks/deliveries", ["state", "event", "url", "message_id"]),
    ],
)
def test_nul_in_a_parameter_that_is_read(api, ali, path, names):
    for name in names:
        assert api.get(f"{path}?{name}=a%00b").status_code == 401
        answer = api.get(f"{path}?{name}=a%00b", headers=ali.headers)
        sentence = f"The {name.replace('_', ' ')} field contains invalid characters."
        assert (answer.status_code, answer.json()["errors"]) == (422, {name: [sentence]})
    if path != "/api/contacts/export":
        assert api.get(f"{path}?page=%00", headers=ali.headers).json()["data"]["current_page"] == 1
        assert list(api.get(f"{path}?per_page=%00", headers=ali.headers).json()["errors"]) == ["per_page"]


def test_other_content_types(api):
    answer = api.post("/api/login", content=b"<login/>", headers={"Content-Type": "text/xml"})
    assert (answer.status_code, answer.json()["success"]) == (415, False)


@pytest.mark.parametrize("path", ["/api/login", "/api/sms"])
def test_body_over_the_limit(api, path):
    body = json.dumps({"email": "x" * 1024 * 1024}).encode()
    answer = api.post(path, content=body)
    assert (answer.status_code, answer.json()) == (413, envelope("The request body is too large."))


@pytest.mark.parametrize("path", ["/api/sms/bulk", "/api/contacts/import"])
def test_large_body_over_the_limit(api, ali, path):
    answer = api.post(path, content=(b"[" * 1024 * 1024 for _ in range(33)), headers=ali.headers)
    assert (answer.status_code, answer.json()) == (413, envelope("The request body is too large."))


def test_body_over_the_limit_in_chunks(api):
    answer = api.post("/api/login", content=(b"x" * 65536 for _ in range(40)))
    assert (answer.status_code, answer.json()["success"]) == (413, False)


def test_declared_length_over_the_limit_is_refused_before_it_is_sent(api, gateway):
    with socket.create_connection(("127.0.0.1", gateway.port), 3) as connection:
        connection.sendall(b"POST /api/login HTTP/1.1\r\nHost: x\r\nContent-Length: 10000000000\r\n\r\n")
        assert connection.recv(65536).startswith(b"HTTP/1.1 413")


def test_missing_body_is_an_empty_one(api):
    answer = api.post("/api/login")
    assert answer.json() == envelope(
        "The email field is required. (and 1 more error)",
        errors={"email": ["The email field is required."], "password": ["The password field is required."]},
    )


def test_null_and_blank_are_missing(api):
    answer = api.post("/api/register", json={"name": "  ", "email": None, "password": ""})
    assert answer.json()["errors"] == {
        "name": ["The name field is required."],
        "email": ["The email field is required."],
        "password": ["The password field is required."],
    }


def test_database_away_is_a_503(api, ali, servers):
    """A request while Postgres is stopped waits for nothing, and says to come back."""
    with httpx.Client(base_url=api.base_url, timeout=20) as client:
        servers.postgres.stop()
        try:
            answer = client.get("/api/user", headers=ali.headers)
            ready = client.get("/health/ready")
            live = client.get("/health/live")
        finally:
            servers.postgres.start()
    assert (answer.status_code, answer.json()["success"], answer.headers["Retry-After"]) == (503, False, "1")
    assert (ready.status_code, ready.json()["database"], live.status_code) == (503, "down", 200)
    # For a second after a refusal no connection is tried.
    until(lambda: api.get("/api/user", headers=ali.headers).status_code == 200)
