"""What is older than anybody wants it kept goes, in small steps; figures, totals and campaigns' counts stay."""

from datetime import UTC, datetime, timedelta

import pytest

from app import retention
from tests.support.messages_of import add_message
from workers.base import in_transaction

OLD = datetime.now(UTC) - timedelta(days=40)


@pytest.fixture
def retain(database):
    """What the task does, and says."""
    from workers import upkeep

    return upkeep.retain


@pytest.fixture
def old(sql):
    def add(account, **fields):
        status = "received" if fields.get("direction") == "inbound" else fields.get("status", "delivered")
        if status != "pending":
            fields[f"{status}_at"] = OLD
        return add_message(sql, account, **{"created_at": OLD, "updated_at": OLD, **fields})

    return add


def left(sql):
    return [number for (number,) in sql.execute("SELECT id FROM messages ORDER BY id")]


def totals(api, account, **query):
    return api.get("/api/sms", headers=account.headers, params=query).json()["data"]["total"]


def test_nothing_is_deleted_unless_somebody_asked_for_it(api, ali, old, sql, retain):
    number = old(ali)
    assert retain() is None
    assert left(sql) == [number]


def test_each_account_keeps_what_it_wants_and_the_operator_the_rest(api, ali, other, old, sql, configured, retain):
    for body in ({"keep_messages_days": 0}, {"keep_incoming_days": 9999}, {"keep_messages_days": "long"}):
        assert api.put("/api/settings", headers=ali.headers, json=body).status_code == 422
    changed = api.put("/api/settings", headers=ali.headers, json={"keep_messages_days": 30})
    assert changed.json()["data"]["keep_messages_days"] == 30
    gone = [old(ali, status=status) for status in ("sent", "delivered", "failed", "cancelled")]
    sql.execute("INSERT INTO message_steps (message_id, attempt, step, at) SELECT id, 1, 'failed', now() FROM messages")
    kept = [
        old(ali, status="pending"),
        old(ali, updated_at=datetime.now(UTC)),  # scheduled long ahead, and sent today
        add_message(sql, ali),
        old(ali, direction="inbound"),
        old(other),
    ]
    stats = api.get("/api/account", headers=ali.headers).json()["data"]["stats"]
    assert totals(api, ali) == 8
    assert retain() == "deleted 4 messages and recipients for their age"
    assert left(sql) == kept
    assert sql.execute("SELECT count(*) FROM message_steps WHERE message_id = ANY(%s)", (gone,)).fetchone() == (0,)
    assert totals(api, ali) == 4
    assert (
        totals(api, ali, status="delivered")
        == len(api.get("/api/sms?status=delivered", headers=ali.headers).json()["data"]["data"])
        == 2
    )
    assert api.get("/api/account", headers=ali.headers).json()["data"]["stats"] == stats
    configured(KEEP_INCOMING="P31D")
    assert retain() == "deleted 1 messages and recipients for their age"
    configured(KEEP_MESSAGES="P41D")  # longer than both: ali's own is shorter, the other's message is younger
    assert retain() is None
    configured(KEEP_MESSAGES="P39D")
    retain()
    assert left(sql) == kept[:3]


def test_a_campaign_that_is_over_keeps_its_counts_and_loses_its_recipients(api, ali, old, sql, configured, retain):
    def campaign(status, finished_at=OLD):
        [number] = sql.execute(
            "INSERT INTO campaigns (user_id, name, message, status, recipients, finished_at)"
            " VALUES (%s, 'Sale', 'Hello', %s, 3, %s) RETURNING id",
            (ali.id, status, finished_at),
        ).fetchone()
        for place in range(3):
            message = old(ali, campaign_id=number)
            sql.execute(
                "INSERT INTO campaign_recipients (campaign_id, place, number, state, message_id)"
                " VALUES (%s, %s, '+998901234567', 1, %s)",
                (number, place + 1, message),
            )
        sql.execute("INSERT INTO campaign_totals VALUES (%s, 0, 'delivered', '', 3)", (number,))
        sql.execute("INSERT INTO campaign_left_out (campaign_id, value, reason) VALUES (%s, 'x', 'invalid')", (number,))
        return number

    over, running, lately = campaign("finished"), campaign("running", None), campaign("cancelled", datetime.now(UTC))
    configured(KEEP_RECIPIENTS="P39D")
    shown = api.get(f"/api/campaigns/{over}", headers=ali.headers).json()["data"]
    assert retain() == "deleted 4 messages and recipients for their age"
    found = sql.execute("SELECT DISTINCT campaign_id FROM campaign_recipients ORDER BY 1").fetchall()
    assert found == [(running,), (lately,)]
    after = api.get(f"/api/campaigns/{over}", headers=ali.headers).json()["data"]
    assert after["counts"] == shown["counts"]
    assert after["recipients_deleted_at"]
    assert retain() is None
    # Their messages go by their own age, and of those that are gone the list says so.
    configured(KEEP_MESSAGES="P39D")
    retain()
    assert left(sql) == []
    listed = api.get(f"/api/campaigns/{running}/recipients", headers=ali.headers).json()["data"]["data"]
    assert {each["state"] for each in listed} == {"not_kept"}


def test_a_step_is_small_whatever_there_is(ali, other, old, sql, configured, monkeypatch):
    monkeypatch.setattr(retention, "BATCH_SIZE", 2)
    configured(KEEP_MESSAGES="P30D")
    for _ in range(5):
        old(ali)
    old(ali, status="failed")
    assert [in_transaction(retention.clean, ali.id) for _ in range(4)] == [2, 2, 2, 0]
    assert in_transaction(retention.clean, 999) == 0
    assert in_transaction(retention.accounts, ali.id) == [other.id]
