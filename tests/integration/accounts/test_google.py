"""Signing in with Google, against a real local stand-in for its tokeninfo endpoint."""

import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import pytest

CLIENT = "client-1.apps.example.com"
TOKEN = "aaa.bbb-_.ccc"
INVALID = {"success": False, "message": "Invalid Google token"}
UNAVAILABLE = {"success": False, "message": "Google sign-in is not available"}


class Google:
    """What the stand-in answers, and which tokens it was asked about."""

    def __init__(self):
        self.status, self.asked, self.delay = 200, [], 0.0
        self.claims = {
            "aud": CLIENT,
            "iss": "https://accounts.google.com",
            "exp": str(int(time.time()) + 600),
            "email_verified": "true",
            "sub": "1000",
            "email": "ali@example.com",
            "name": "Ali Valiyev",
        }
        self.body = None


@pytest.fixture
def google(configured):
    state = Google()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            state.asked.append(parse_qs(urlsplit(self.path).query)["id_token"][0])
            time.sleep(state.delay)
            body = json.dumps(state.claims).encode() if state.body is None else state.body
            self.send_response(state.status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        configured(GOOGLE_CLIENT_ID=CLIENT, GOOGLE_TOKENINFO_URL=f"http://127.0.0.1:{server.server_port}/tokeninfo")
        yield state
        server.shutdown()


def sign_in(api, token=TOKEN):
    return api.post("/api/auth/google", json={"id_token": token})


def test_first_sign_in_makes_a_user_and_the_next_finds_it(api, google, sql):
    first = sign_in(api)
    assert (first.status_code, first.json()["message"]) == (200, "Login successful")
    assert first.json()["data"]["user"] == {"id": 1, "name": "Ali Valiyev", "email": "ali@example.com"}
    assert google.asked == [TOKEN]
    headers = {"Authorization": f"Bearer {first.json()['data']['token']}"}
    assert api.get("/api/user", headers=headers).status_code == 200
    google.claims |= {"email": "moved@example.com", "iss": "accounts.google.com", "email_verified": True}
    assert sign_in(api).json()["data"]["user"]["id"] == 1
    assert sql.execute("SELECT count(*) FROM users").fetchone() == (1,)


def test_links_by_verified_email(api, google, new_account):
    account = new_account("Ali@Example.com", "Known")
    assert sign_in(api).json()["data"]["user"] == {"id": account.id, "name": "Known", "email": "Ali@Example.com"}


@pytest.mark.parametrize(
    "claims",
    [
        {"aud": "another"},
        {"aud": None},
        {"iss": "https://evil.example.com"},
        {"exp": "1"},
        {"exp": None},
        {"exp": "NaN"},
        {"email_verified": "false"},
        {"email_verified": None},
        {"email_verified": []},
        {"iss": {}},
        {"sub": None},
        {"email": None},
        {"email": "x" * 300 + "@example.com"},
        {"email": "ali\0@example.com"},
        {"email": "ali\ud800@example.com"},
        {"sub": "10\x0000"},
        {"sub": "1000\udfff"},
        {"sub": "1" * 256},
        {"exp": 10**400},
    ],
)
def test_claims_that_do_not_convince(api, google, sql, claims):
    google.claims |= claims
    answer = sign_in(api)
    assert (answer.status_code, answer.json()) == (401, INVALID)
    assert sql.execute("SELECT count(*) FROM users").fetchone() == (0,)


@pytest.mark.parametrize("name", ["Ali\0", "Ali \ud83d", "", None, 5])
def test_a_name_that_cannot_be_kept_is_made_of_the_email(api, google, name):
    google.claims["name"] = name
    assert sign_in(api).json()["data"]["user"]["name"] == "ali"


@pytest.mark.parametrize("status", [400, 401])
def test_token_that_google_refuses(api, google, status):
    google.status = status
    answer = sign_in(api)
    assert (answer.status_code, answer.json()) == (401, INVALID)


@pytest.mark.parametrize(
    "token", ["x", "a.b", "a.b.c.d", "a..c", "a.b.c=", "a.b.c d", "å.b.c", ".".join("abc") + "\n."]
)
def test_no_token_at_all_is_refused_unasked(api, google, token):
    assert (sign_in(api, token).status_code, sign_in(api, token).json(), google.asked) == (401, INVALID, [])


def test_not_configured(api, configured):
    configured(GOOGLE_CLIENT_ID="")
    assert sign_in(api, "x").status_code == 401
    answer = sign_in(api)
    assert (answer.status_code, answer.json()) == (503, UNAVAILABLE)
    assert sign_in(api, None).json()["errors"] == {"id_token": ["The id token field is required."]}


@pytest.mark.parametrize(
    ("status", "body"),
    [(500, None), (404, None), (302, None), (200, b"<html>"), (200, b"[]"), (200, b"[" * 100_000), (200, b"\xff")],
)
def test_google_that_talks_nonsense(api, google, status, body):
    google.status, google.body = status, body
    answer = sign_in(api)
    assert (answer.status_code, answer.json()) == (503, UNAVAILABLE)


@pytest.mark.parametrize("url", ["http://127.0.0.1:1/tokeninfo", "http://[bad", "nonsense"])
def test_google_that_cannot_be_reached(api, google, configured, url):
    configured(GOOGLE_TOKENINFO_URL=url)
    answer = sign_in(api)
    assert (answer.status_code, answer.json()) == (503, UNAVAILABLE)


def test_closed_registration_is_for_new_users_only(api, google, configured, new_account):
    configured(REGISTRATION="closed")
    answer = sign_in(api)
    assert (answer.status_code, answer.json()) == (403, {"success": False, "message": "Registration is closed"})
    new_account()
    assert sign_in(api).status_code == 200


def test_many_first_sign_ins_at_once_make_one_user(api, google, sql):
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: sign_in(api), range(8)))
    assert [answer.status_code for answer in answers] == [200] * 8
    assert sql.execute("SELECT (SELECT count(*) FROM users), (SELECT count(*) FROM tokens)").fetchone() == (1, 8)


def test_no_transaction_is_open_while_google_is_asked(api, google, sql):
    google.delay = 1.0
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(sign_in, api)
        while not google.asked:
            time.sleep(0.01)
        held = sql.execute(
            "SELECT count(*) FROM pg_stat_activity"
            " WHERE datname = current_database() AND state LIKE 'idle in transaction%'"
        ).fetchone()
        assert (held, answer.done()) == ((0,), False)
        assert answer.result().status_code == 200
