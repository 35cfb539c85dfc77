"""API keys: made, listed, revoked, limited by ability, plan and time."""

from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta

import pytest

from app.core.errors import Forbidden

ACCOUNT_PATHS = ["/api/user", "/api/account", "/api/balance", "/api/settings", "/api/subscription"]


def test_create_show_and_revoke(api, ali):
    made = api.post("/api/tokens", json={"name": " Production server "}, headers=ali.headers)
    assert made.status_code == 201
    assert made.json()["message"] == "API key created. Copy it now — it will not be shown again."
    data = made.json()["data"]
    assert (data["name"], data["token"].startswith(f"{data['id']}|")) == ("Production server", True)
    assert data["created_at"].endswith("Z")

    listed = api.get("/api/tokens", headers=ali.headers)
    assert listed.json() == {
        "success": True,
        "data": [
            {
                "id": data["id"],
                "name": "Production server",
                "abilities": ["*"],
                "last_used_at": None,
                "expires_at": None,
                "created_at": data["created_at"],
            }
        ],
    }
    key = {"Authorization": f"Bearer {data['token']}"}
    assert api.get("/api/user", headers=key).status_code == 200
    gone = api.delete(f"/api/tokens/{data['id']}", headers=ali.headers)
    assert (gone.status_code, gone.json()) == (200, {"success": True, "message": "API key revoked"})
    assert api.get("/api/user", headers=key).status_code == 401
    assert api.delete(f"/api/tokens/{data['id']}", headers=ali.headers).status_code == 404


def test_wrong_secret_of_a_real_token(api, ali):
    token = ali.headers["Authorization"]
    assert (
        api.get("/api/user", headers={"Authorization": token[:-1] + ("a" if token[-1] != "a" else "b")}).status_code
        == 401
    )


@pytest.mark.parametrize(
    ("body", "errors"),
    [
        ({}, {"name": ["The name field is required."]}),
        ({"name": "x" * 256}, {"name": ["The name field must not be greater than 255 characters."]}),
        ({"name": "x", "abilities": "sms:send"}, {"abilities": ["The abilities field must be an array."]}),
        ({"name": "x", "abilities": ["sms:sent"]}, {"abilities.0": ["The selected abilities.0 is invalid."]}),
        ({"name": "x", "expires_at": "soon"}, {"expires_at": ["The expires at field must be a valid date."]}),
        ({"name": "x", "expires_at": "2020-01-01"}, {"expires_at": ["The expires at field must be a date after now."]}),
    ],
)
def test_refused_keys(api, ali, body, errors):
    answer = api.post("/api/tokens", json=body, headers=ali.headers)
    assert (answer.status_code, answer.json()["errors"]) == (422, errors)


def test_end_of_a_key(api, ali):
    body = {"name": "x", "expires_at": "2199-01-01T00:00:00Z"}
    answer = api.post("/api/tokens", json=body, headers=ali.headers)
    assert answer.json()["data"]["expires_at"] == "2199-01-01T00:00:00.000000Z"


@pytest.mark.parametrize(
    ("own", "wanted", "status"),
    [
        (["*"], None, 201),
        (["*"], ["*"], 201),
        (["*"], ["sms:send", "made up"], 422),
        (["tokens", "sms:send"], ["sms:send"], 201),
        (["tokens", "sms:send"], ["sms:sent"], 422),
        (["tokens", "sms:send"], [], 201),
        (["tokens", "sms:send"], None, 403),
        (["tokens", "sms:send"], ["*"], 403),
        (["tokens", "sms:send"], ["sms:send", "sms:read"], 403),
        (["sms:send"], ["sms:send"], 403),
    ],
)
def test_a_key_makes_none_that_can_do_more(api, ali, own, wanted, status):
    body = {"name": "x"} if wanted is None else {"name": "x", "abilities": wanted}
    answer = api.post("/api/tokens", json=body, headers=ali.token(*own))
    assert answer.status_code == status
    if status == 403:
        assert answer.json() == {"success": False, "message": "Invalid ability provided."}


def test_a_key_makes_none_that_outlives_it(api, ali, sql):
    maker = ali.token(expires_in=timedelta(hours=1))
    [end] = sql.execute("SELECT max(expires_at) FROM tokens").fetchone()

    def make(expires_at, headers=maker):
        return api.post("/api/tokens", json={"name": "x", "expires_at": expires_at}, headers=headers)

    for asked, got in ((end - timedelta(minutes=1), end - timedelta(minutes=1)), (end, end), (None, end)):
        answer = make(asked and asked.isoformat())
        assert answer.status_code == 201
        assert datetime.fromisoformat(answer.json()["data"]["expires_at"]) == got
        assert sql.execute("SELECT expires_at FROM tokens ORDER BY id DESC LIMIT 1").fetchone() == (got,)
    refused = make((end + timedelta(milliseconds=1)).isoformat())
    assert (refused.status_code, refused.json()) == (
        403,
        {
            "success": False,
            "message": "An API key cannot outlive the token that creates it.",
            "reason_code": "key_outlives",
        },
    )
    assert make("2020-01-01").status_code == 422
    assert make(None, ali.headers).json()["data"]["expires_at"] is None


def test_unknown_abilities_grant_nothing(api, ali):
    key = ali.token("everything", "Account", "account ")
    assert all(api.get(path, headers=key).status_code == 403 for path in ACCOUNT_PATHS)


@pytest.mark.parametrize("path", [*ACCOUNT_PATHS, "/api/tokens"])
def test_only_a_living_token_with_the_ability_gets_in(api, ali, path):
    ability = "tokens" if path == "/api/tokens" else "account"
    assert api.get(path, headers=ali.token(ability)).status_code == 200
    assert api.get(path, headers=ali.token("sms:send", "phone:enroll")).status_code == 403
    assert api.get(path, headers=ali.token(expires_in=timedelta(hours=1))).status_code == 200
    assert api.get(path, headers=ali.token(expires_in=timedelta(seconds=-1))).status_code == 401
    revoked = ali.token()
    number = revoked["Authorization"].removeprefix("Bearer ").partition("|")[0]
    assert api.delete(f"/api/tokens/{number}", headers=ali.headers).status_code == 200
    assert api.get(path, headers=revoked).status_code == 401


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("PUT", "/api/settings"),
        ("PATCH", "/api/settings"),
        ("POST", "/api/subscriptions/redeem-promo"),
        ("POST", "/api/tokens"),
        ("DELETE", "/api/tokens/1"),
    ],
)
def test_changes_need_the_ability_before_the_body_is_judged(api, ali, method, path):
    answer = api.request(method, path, headers=ali.token("sms:send"), content=b"{")
    assert (answer.status_code, answer.json()) == (403, {"success": False, "message": "Invalid ability provided."})
    assert (
        api.request(method, path, headers=ali.token(expires_in=timedelta(seconds=-1)), content=b"{").status_code == 401
    )


def test_keys_of_others_are_not_there(api, ali, other):
    other.token()
    key_id = int(other.token()["Authorization"].removeprefix("Bearer ").partition("|")[0])
    answer = api.delete(f"/api/tokens/{key_id}", headers=ali.headers)
    assert answer.status_code == 404
    assert answer.json() == {"success": False, "message": "No query results for model [PersonalAccessToken]."}
    assert api.get("/api/tokens", headers=ali.headers).json()["data"] == []


@pytest.mark.parametrize("key_id", ["0", "-1", "x", "9" * 30, "1.5", "%20"])
def test_ids_that_are_none(api, ali, key_id):
    assert api.delete(f"/api/tokens/{key_id}", headers=ali.headers).status_code == 404


def test_sessions_are_no_api_keys(api, ali):
    number = ali.headers["Authorization"].removeprefix("Bearer ").partition("|")[0]
    assert api.get("/api/tokens", headers=ali.headers).json()["data"] == []
    assert api.delete(f"/api/tokens/{number}", headers=ali.headers).status_code == 404


def test_keys_need_the_feature_and_sessions_do_not(api, ali, new_account, configured):
    key = ali.token()
    configured(FREE_FEATURES="webhooks")
    needs_premium = {"success": False, "message": "This feature requires Premium.", "upgrade": True}
    for answer in (api.get("/api/user", headers=key), api.post("/api/tokens", json={"name": "x"}, headers=ali.headers)):
        assert (answer.status_code, answer.json()) == (403, needs_premium)
    assert api.get("/api/user", headers=ali.headers).status_code == 200
    assert [len(api.get("/api/tokens", headers=ali.headers).json()["data"])] == [1]
    assert api.get("/api/account", headers=ali.headers).json()["data"]["subscription"]["features"] == ["webhooks"]

    rich = new_account("rich@example.com", months=1)
    assert api.get("/api/user", headers=rich.token()).status_code == 200
    assert api.post("/api/tokens", json={"name": "x"}, headers=rich.headers).status_code == 201


def test_enrolling_a_phone_needs_no_feature(ali, configured):
    from app.accounts.principals import principal_of, require
    from app.core.database import transaction
    from app.core.security import parse_token

    configured(FREE_FEATURES="")
    key = ali.token("phone:enroll")["Authorization"].removeprefix("Bearer ")
    with transaction() as session:
        principal = principal_of(session, parse_token(key))
    require(principal, "phone:enroll")
    with pytest.raises(Forbidden):
        require(principal, "sms:send")


def test_the_missing_ability_is_told_before_the_missing_feature(api, ali, configured):
    key = ali.token("sms:send")
    configured(FREE_FEATURES="")
    assert "upgrade" not in api.get("/api/user", headers=key).json()


def test_premium_ends_with_its_second(api, new_account, sql, configured):
    rich = new_account(months=1)
    key = rich.token()
    configured(FREE_FEATURES="")
    assert api.get("/api/user", headers=key).json()["data"]["plan"] == "premium"
    sql.execute("UPDATE users SET premium_expires_at = clock_timestamp() - interval '1 millisecond'")
    assert api.get("/api/user", headers=key).status_code == 403
    assert api.get("/api/user", headers=rich.headers).json()["data"]["plan"] == "free"


def test_last_use_is_noted_at_most_once_a_minute_and_waits_for_nobody(api, ali, sql, servers):
    from app.accounts.token_use import write_token_usage

    key = ali.token()
    api.get("/api/user", headers=key)
    write_token_usage()
    (first,) = sql.execute("SELECT last_used_at FROM tokens WHERE kind = 'key'").fetchone()
    assert first is not None
    api.get("/api/user", headers=key)
    write_token_usage()
    assert sql.execute("SELECT last_used_at FROM tokens WHERE kind = 'key'").fetchone() == (first,)

    sql.execute("UPDATE tokens SET last_used_at = clock_timestamp() - interval '2 minutes'")
    with sql.transaction():
        sql.execute("SELECT 1 FROM tokens WHERE kind = 'key' FOR UPDATE")
        api.get("/api/user", headers=key)
        write_token_usage()
    (old,) = sql.execute(
        "SELECT clock_timestamp() - last_used_at > interval '1 minute' FROM tokens WHERE kind = 'key'"
    ).fetchone()
    assert old


def test_who_asks_in_a_batch_is_told_apart(ali, other):
    from app.core.database import transaction
    from app.core.security import digest, parse_token
    from app.messages.accepting.device_choice import authenticate_and_choose

    def credential(headers):
        return parse_token(headers["Authorization"].removeprefix("Bearer "))

    first, second = credential(ali.headers), credential(other.token("sms:send"))
    wrong = (first[0], digest("wrong"))
    expired = credential(ali.token(expires_in=timedelta(seconds=-1)))
    asked = [(who, "active") for who in (second, wrong, first, (10**17, digest("x")), expired, second)]
    with transaction() as session:
        found = authenticate_and_choose(session, asked)
        assert authenticate_and_choose(session, []) == {}
    assert {who[0]: user.user_id for (who, _), (user, _) in found.items()} == {second[0]: other.id, first[0]: ali.id}
    assert found[second, "active"][0].abilities == {"sms:send"}


def test_many_keys_at_once(api, ali):
    with ThreadPoolExecutor(8) as pool:
        answers = list(
            pool.map(lambda n: api.post("/api/tokens", json={"name": str(n)}, headers=ali.headers), range(24))
        )
    assert len({answer.json()["data"]["id"] for answer in answers}) == 24


def test_a_key_revokes_none_that_can_do_more(api, ali):
    strong = api.post("/api/tokens", json={"name": "strong"}, headers=ali.headers).json()["data"]["id"]
    weak = api.post("/api/tokens", json={"name": "weak", "abilities": ["tokens"]}, headers=ali.headers).json()["data"]
    tokens = ali.token("tokens")
    assert api.delete(f"/api/tokens/{strong}", headers=tokens).status_code == 403
    assert api.delete(f"/api/tokens/{weak['id']}", headers=tokens).status_code == 200
    assert api.delete(f"/api/tokens/{strong}", headers=ali.headers).status_code == 200


def test_a_sending_key_deletes_no_received_message(api, ali, sql):
    received = sql.execute(
        "INSERT INTO messages (user_id, message_id, direction, status, received_at, message, sender_number, segments,"
        " encoding) VALUES (%s, gen_random_uuid(), 'inbound', 'received', now(), 'x', '+12025550123', 1, 'gsm7')"
        " RETURNING id",
        [ali.id],
    ).fetchone()[0]
    assert api.delete(f"/api/sms/{received}", headers=ali.token("sms:send")).status_code == 403
    assert api.delete(f"/api/sms/{received}", headers=ali.token("sms:send", "sms:read")).status_code == 200
