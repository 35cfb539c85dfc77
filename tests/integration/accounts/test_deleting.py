"""Deleting an account with everything that is its."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest
from sqlalchemy import text

from app import erasing
from app.core.database import Base, transaction
from app.messages.life.opting_out import STRAGGLING
from app.migrations.tables import load_tables
from tests.integration.accounts.test_google import TOKEN, google, sign_in  # noqa: F401 - a fixture
from tests.integration.accounts.test_passwords import ALI, bearer, registered
from tests.support.strict_phone import StrictPhone


def erase_all(sql):
    sql.execute("UPDATE users SET deleted_at = deleted_at - %s", [STRAGGLING])
    for _ in range(100):
        with transaction() as session:
            erasing.erase(session)
        if not sql.execute("SELECT count(*) FROM users WHERE deleted_at IS NOT NULL").fetchone()[0]:
            return
    raise AssertionError("never done")


def test_every_table_of_an_account_is_named():
    load_tables()
    named = {table for table, _ in (*erasing.ROWS, *erasing.KEPT_FOR_OTHERS)}
    named |= {part for part, _ in erasing.PARTS.values()}
    owned = {
        name
        for name, table in Base.metadata.tables.items()
        if {"user_id", "device_id", "message_id", "delivery_id", "campaign_id"} & set(table.columns.keys())
    }
    assert owned == named


def test_nothing_of_a_deleted_account_is_left(api, gateway, sql, other, monkeypatch):
    monkeypatch.setattr(erasing, "BATCH_SIZE", 3)
    headers = registered(api)
    key = bearer(api.post("/api/tokens", json={"name": "x"}, headers=headers))
    invited = api.post("/api/devices/enrollment", headers=headers).json()["data"]
    with closing(StrictPhone(gateway.url)) as phone:
        phone.register(invited["private_token"])
        hook = "http://127.0.0.1:9/x"
        api.put("/api/webhooks", json={"webhook_url_status": "https://example.com/s"}, headers=headers)
        for number in range(5):
            body = {"message": "x", "recipient_number": f"+1202555010{number}"}
            assert api.post("/api/sms", json=body, headers=headers | {"Idempotency-Key": hook}).status_code in {
                201,
                422,
            }
        api.post("/api/contacts", json={"phone_number": "+12025550123"}, headers=headers)
        api.post("/api/contact-groups", json={"name": "x"}, headers=headers)
        api.post("/api/templates", json={"name": "x", "message": "x"}, headers=headers)
        api.put("/api/opt-outs/settings", json={"opt_out_reply": "Bye"}, headers=headers)
        phone.sync()
        assert phone.receive("+12025550123", "STOP") == 200
        api.post("/api/sms", json={"message": "x", "recipient_number": "+12025550123"}, headers=other.headers)

        refused = api.request("DELETE", "/api/user", json={"current_password": "wrong"}, headers=headers)
        assert refused.json()["errors"] == {"current_password": ["The password is incorrect."]}
        assert api.delete("/api/user", headers=headers).status_code == 422
        assert api.request("DELETE", "/api/user", json={"current_password": "secret"}, headers=key).status_code == 403
        gone = api.request("DELETE", "/api/user", json={"current_password": "secret"}, headers=headers)
        assert (gone.status_code, gone.json()) == (200, {"success": True, "message": "Account deleted"})
        assert [api.get("/api/user", headers=each).status_code for each in (headers, key)] == [401, 401]
        assert phone.announce() == 401
        assert api.post("/api/login", json=ALI).status_code == 401
    again = api.post("/api/register", json=ALI)
    assert again.status_code == 201, "the address is free at once"
    erase_all(sql)
    kept = {other.id, again.json()["data"]["user"]["id"]}
    for name, table in Base.metadata.tables.items():
        if "user_id" in table.columns:
            with transaction() as session:
                owners = set(session.scalars(text(f"SELECT DISTINCT user_id FROM {name} WHERE user_id IS NOT NULL")))
            assert owners <= kept, name
    assert sql.execute("SELECT count(*) FROM device_state").fetchone() == (0,)


@pytest.mark.parametrize("abilities", [["*"], ["account"]])
def test_a_key_deletes_no_account(api, ali, abilities):
    assert api.delete("/api/user", headers=ali.token(*abilities)).status_code == 403


def remove(api, headers, **body):
    return api.request("DELETE", "/api/user", json=body, headers=headers)


def test_a_google_account_is_deleted_with_a_token_of_google_and_not_by_its_session_alone(api, google, sql):  # noqa: F811
    headers = bearer(sign_in(api))
    assert list(api.delete("/api/user", headers=headers).json()["errors"]) == ["id_token"]
    assert list(remove(api, headers, id_token="x").json()["errors"]) == ["id_token"]
    google.claims["sub"] = "2000"
    refused = remove(api, headers, id_token=TOKEN)
    assert "not a valid token of the Google account" in refused.json()["errors"]["id_token"][0]
    google.status = 500
    assert remove(api, headers, id_token=TOKEN).status_code == 503
    google.status, google.claims["sub"] = 200, "1000"
    assert remove(api, headers, id_token=TOKEN).status_code == 200
    erase_all(sql)
    assert sql.execute("SELECT count(*) FROM users").fetchone() == (0,)


def test_another_ones_google_account_does_not_stand_in_for_the_password(api, google):  # noqa: F811
    headers = registered(api)
    assert list(remove(api, headers, id_token=TOKEN).json()["errors"]) == ["id_token"]


def test_deleting_twice_at_once_is_done_once(api, sql):
    headers = registered(api)
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: remove(api, headers, current_password="secret"), range(4)))
    assert sorted(answer.status_code for answer in answers) == [200, 401, 401, 401]
