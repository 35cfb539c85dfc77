"""The audit log: who did what, when and from where; nobody else sees it, and nothing changes it."""

import psycopg
import pytest

from app import erasing
from app.accounts import audit, ownership, plans
from app.accounts.audit import Action
from app.core.database import transaction
from tests.support.guards import refuses_strangers


def log_of(api, account, **wanted) -> list[dict]:
    answer = api.get("/api/audit", headers=account.headers, params=wanted)
    assert answer.status_code == 200, answer.text
    return answer.json()["data"]["data"]


def actions(entries) -> list[str]:
    return [entry["action"] for entry in entries]


def test_what_is_done_to_an_account_is_written_down_with_who_and_from_where(api, ali):
    key = api.post("/api/tokens", headers=ali.headers, json={"name": "shop", "abilities": ["account", "tokens"]})
    key_id, plain = key.json()["data"]["id"], key.json()["data"]["token"]
    with_key = {"Authorization": f"Bearer {plain}"}
    assert api.put("/api/settings", headers=with_key, json={"keep_inbound": False}).status_code == 200
    assert api.delete(f"/api/tokens/{key_id}", headers=ali.headers).status_code == 200
    revoked, changed, created = log_of(api, ali)
    assert (created["action"], created["subject"], created["by"]) == ("key_created", key_id, "session")
    assert created["details"] == {"name": "shop", "abilities": ["account", "tokens"]}
    assert (changed["action"], changed["by"], changed["token_id"]) == ("settings_changed", "key", key_id)
    assert changed["details"] == {"names": ["keep_inbound"]}
    assert (revoked["action"], revoked["subject"], revoked["address"]) == ("key_revoked", key_id, "127.0.0.1")
    secret = plain.partition("|")[2]
    assert secret not in api.get("/api/audit", headers=ali.headers).text


def test_signing_in_and_out_is_written_down(api):
    person = {"name": "Laylo", "email": "laylo@example.com", "password": "correct horse"}
    api.post("/api/register", json={**person, "password_confirmation": "correct horse"})
    signed_in = api.post("/api/login", json=person, headers={"User-Agent": "the shop"}).json()["data"]
    headers = {"Authorization": f"Bearer {signed_in['token']}"}
    entries = api.get("/api/audit", headers=headers).json()["data"]["data"]
    assert actions(entries) == ["signed_in", "registered"]
    assert entries[0]["details"] == {"client": "the shop", "by": "password"}
    assert entries[0]["token_id"] == entries[0]["subject"] == int(signed_in["token"].partition("|")[0])


def test_a_refused_call_writes_nothing_and_one_that_fails_after_it_neither(api, ali):
    api.put("/api/settings", headers=ali.headers, json={"offline_alert_minutes": 10})  # alerts nobody
    api.delete("/api/tokens/999999", headers=ali.headers)
    with transaction() as session:
        audit.record(session, Action.USER_BLOCKED, ali.id)
        session.rollback()
    assert log_of(api, ali) == []


def test_an_operator_is_named_as_one_without_where_they_are(api, ali, other):
    from app.core import caller

    caller.begin(caller.Caller("session", "198.51.100.9", other.id, 7))
    try:
        with transaction() as session:
            plans.add_premium(session, ali.id, 2)
    finally:
        caller.begin(caller.Caller())
    [entry] = log_of(api, ali)
    assert (entry["action"], entry["by"], entry["address"], entry["token_id"]) == (
        "premium_given",
        "operator",
        None,
        None,
    )
    with transaction() as session:
        [row], _ = audit.entries(session, None, most=1)
    assert (row.actor_id, row.address) == (other.id, "198.51.100.9")


def test_pages_go_by_cursor_and_hold_only_ones_own(api, ali, other):
    with transaction() as session:
        for number in range(5):
            audit.record(session, Action.PHONE_REMOVED if number == 1 else Action.PHONE_CHANGED, ali.id, number)
            audit.record(session, Action.PHONE_CHANGED, other.id, number)
        audit.record(session, Action.PROMO_CREATED, None, 1)
    seen, cursor = [], None
    while True:
        params = {"per_page": 2} | ({"cursor": cursor} if cursor else {})
        page = api.get("/api/audit", headers=ali.headers, params=params).json()["data"]
        seen += [entry["subject"] for entry in page["data"]]
        if (cursor := page["next_cursor"]) is None:
            break
    assert seen == [4, 3, 2, 1, 0]
    assert [entry["subject"] for entry in log_of(api, ali, action="phone_removed")] == [1]
    assert api.get("/api/audit?action=nonsense", headers=ali.headers).status_code == 422
    refuses_strangers(api, ali, "GET", "/api/audit", "account")


def test_rows_are_never_changed_and_go_by_age_or_with_their_account(api, ali, other, sql):
    with transaction() as session:
        audit.record(session, Action.PHONE_CHANGED, ali.id)
        audit.record(session, Action.PHONE_CHANGED, other.id)
    with pytest.raises(psycopg.errors.RaiseException, match="never changed"):
        sql.execute("UPDATE audit_events SET action = 'exported'")
    sql.execute(
        "INSERT INTO audit_events (action, by, created_at) VALUES ('exported', 'key', now() - interval '366 d')"
    )
    with transaction() as session:
        assert audit.clean(session) == 1
        ownership.delete_account(session, ali.id)
    with transaction() as session:
        while erasing.erase(session):
            pass
    left = sql.execute("SELECT user_id, action, subject FROM audit_events ORDER BY id").fetchall()
    assert left == [(other.id, "phone_changed", None), (None, "account_deleted", ali.id)]


def test_an_operator_lists_all_of_it_in_a_terminal(ali, other):
    from typer.testing import CliRunner

    from app.accounts.commands import audit_app

    with transaction() as session:
        audit.record(session, Action.PHONE_REMOVED, ali.id, 7, name="Pixel\x1b[31m")
        audit.record(session, Action.PROMO_CREATED, None, 3)
    ran = CliRunner().invoke(audit_app, ["list"])
    promo, phone = ran.stdout.splitlines()
    assert "promo_created  of 3  by gateway" in promo
    assert f"phone_removed  account {ali.id}  of 7  by gateway  name: 'Pixel" in phone
    assert "\x1b" not in phone
    ran = CliRunner().invoke(audit_app, ["list", "--user", other.email])
    assert ran.stdout == ""


def test_the_log_is_read_by_time(api, ali, sql):
    for name in ("old", "new"):
        api.post("/api/tokens", headers=ali.headers, json={"name": name, "abilities": ["account"]})
    sql.execute("ALTER TABLE audit_events DISABLE TRIGGER audit_events_stay")
    sql.execute("UPDATE audit_events SET created_at = '2026-01-05 12:00Z' WHERE details ->> 'name' = 'old'")
    sql.execute("ALTER TABLE audit_events ENABLE TRIGGER audit_events_stay")
    for wanted, names in (
        ({"from": "2026-01-06"}, ["new"]),
        ({"to": "2026-01-05"}, ["old"]),
        ({"from": "2026-01-05T12:00:00Z", "to": "2026-01-05T12:00:00Z"}, ["old"]),
        ({"from": "2026-01-05"}, ["new", "old"]),
        ({"to": "2026-01-05T11:59:59Z"}, []),
    ):
        assert [entry["details"]["name"] for entry in log_of(api, ali, **wanted)] == names, wanted
    refused = api.get("/api/audit", headers=ali.headers, params={"from": "yesterday"})
    assert (refused.status_code, list(refused.json()["errors"])) == (422, ["from"])
