"""What is told of a campaign while it runs: by phone, by reason, and as a stream."""

import json
from datetime import UTC, datetime, timedelta

import httpx
import pytest

from app.campaigns import progress
from app.core.database import transaction
from tests.support.waiting import until

FAILED = "Send result: RESULT_ERROR_GENERIC_FAILURE (1)"


def test_progress_by_phone_and_reason(phone, campaign, ask, look, show, counts, device_number):
    number = campaign(recipients=6)
    ask(number, "start")
    look()
    pulled = phone.pull()
    for message in pulled[:3]:
        phone.send(message["id"])
    phone.report(pulled[3]["id"], "Failed", error=FAILED)
    phone.report(pulled[4]["id"], "Failed", error=FAILED)
    for _ in range(2):  # before it is folded, and after
        shown = show(number)
        assert shown["failures"] == [
            {
                "reason_code": "generic",
                "reason": "The phone gave no exact reason; often the SIM card has no credit.",
                "count": 2,
            }
        ]
        [one] = shown["devices"]
        assert one["device_id"] == device_number(phone)
        assert {name: n for name, n in one.items() if n} == {
            "device_id": one["device_id"],
            "device_name": one["device_name"],
            "given": 1,
            "delivered": 3,
            "failed": 2,
        }
        assert shown["rate"] > 0
        assert counts(number) == {"given": 1, "delivered": 3, "failed": 2}
        look()


def test_a_note_is_counted_as_its_own_reason(phone, campaign, ask, look, show, client, sql):
    number = campaign(recipients=3)
    ask(number, "start")
    look()
    for message in phone.pull():
        phone.report(message["id"], "Failed", error=FAILED)
    noted = sql.execute("SELECT min(id) FROM messages").fetchone()[0]

    def by_reason():
        rows = sql.execute(
            "SELECT detail, sum(n) FROM device_deltas WHERE kind = 'failed' GROUP BY 1 HAVING sum(n) <> 0"
        )
        return {one["reason_code"]: one["count"] for one in show(number)["failures"]}, dict(rows.fetchall())

    assert client.put(f"/api/sms/{noted}", json={"error_message": "my own words"}).status_code == 200
    assert by_reason() == ({"generic": 2, "other": 1}, {"generic": 2, "other": 1})
    assert client.post(f"/api/sms/{noted}/retry").status_code == 200
    assert by_reason()[0] == {"generic": 2}


def test_a_course_has_a_bounded_number_of_steps(sql):
    changes = [(0, "sent", 5), (600, "sent", -5), (600, "delivered", 5), (6000, "failed", 1)]
    for minute, result, n in changes:
        moment = datetime(2026, 6, 1, tzinfo=UTC) + timedelta(minutes=minute)
        sql.execute("INSERT INTO campaign_minutes VALUES (7, %s, %s, %s)", (moment, result, n))
    with transaction() as session:
        steps = progress.course(session, 7)
        assert progress.course(session, 8) == []
    assert [moment for moment, _ in (steps[0], steps[6])] == [
        datetime(2026, 6, 1, hour, tzinfo=UTC) for hour in (0, 10)
    ]
    assert (len(steps), steps[5][1], steps[6][1]) == (61, {"sent": 5}, {"sent": 0, "delivered": 5})
    assert steps[60][1]["failed"] == 1


def test_the_end_is_what_rate_and_hours_allow(phone, campaign, ask, look, show, sql, settings_of):
    settings_of(phone, send_delay_seconds=60)
    number = campaign(recipients=100)
    ask(number, "start")
    look()
    shown = show(number)
    assert shown["rate"] == 0
    began, end = (datetime.fromisoformat(shown[name]) for name in ("started_at", "ends_at"))
    assert timedelta(minutes=90) < end - began < timedelta(minutes=110), "one a minute"
    ask(number, "pause")
    assert show(number)["ends_at"] is None


def test_late_reports_correct_a_finished_campaign(phone, campaign, ask, look, show, counts, later, work):
    from app.campaigns import progress
    from app.messages.life import expiry

    number = campaign(recipients=2)
    ask(number, "start")
    look()
    first, _ = phone.pull()
    later(25 * 3600)
    work(expiry.expire)
    look()
    assert show(number)["status"] == "finished"
    assert counts(number) == {"failed": 2, "uncertain": 2}
    phone.send(first["id"])
    assert counts(number) == {"delivered": 1, "failed": 1, "uncertain": 1}
    work(progress.fold_all)
    assert counts(number) == {"delivered": 1, "failed": 1, "uncertain": 1}
    assert show(number)["status"] == "finished"


def events(answer):
    """The events of a stream as they come: their ids and data."""
    name = None
    for line in answer.iter_lines():
        if line.startswith("id: "):
            name = line.removeprefix("id: ")
        elif line.startswith("data: "):
            yield name, json.loads(line.removeprefix("data: "))


@pytest.fixture
def watch(gateway, ali):
    with httpx.Client(base_url=gateway.url, headers=ali.headers, timeout=20) as client:
        yield lambda campaign, **headers: client.stream("GET", f"/api/campaigns/{campaign}/events", headers=headers)


def test_the_stream_tells_at_once_and_when_something_changes(phone, campaign, ask, look, watch):
    number = campaign(recipients=2)
    with watch(number) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        told = events(answer)
        name, first = next(told)
        assert (first["status"], first["counts"]["not_made"]) == ("draft", 2)
        ask(number, "start")
        look()
        while first["counts"]["waiting"] != 2:
            last, first = next(told)
    assert last != name
    with watch(number, **{"Last-Event-ID": last}) as answer:
        told = events(answer)
        ask(number, "pause")
        assert next(told)[1]["status"] == "paused", "what it had seen was not told again"


def test_a_stream_is_the_owners_and_ends_with_the_campaign(campaign, client, api, gateway, other, watch):
    number = campaign()
    answer = api.get(f"/api/campaigns/{number}/events", headers=other.headers)
    assert answer.status_code == 404
    with watch(number) as answer:
        told = events(answer)
        next(told)
        assert client.delete(f"/api/campaigns/{number}").status_code == 200
        assert list(told) == []


def test_streams_of_an_account_are_limited(campaign, watch, monkeypatch):
    from app.campaigns import watching
    from app.core.shares import Shares

    monkeypatch.setattr(watching, "shares", Shares(4))
    number = campaign()
    with watch(number) as first, watch(number) as second:
        assert (first.status_code, second.status_code) == (200, 200)
        with watch(number) as third:
            assert third.status_code == 429

    def again():
        with watch(number) as answer:
            return answer.status_code == 200

    until(again)
