"""A campaign from start to finish, paused, resumed and cancelled, with phones that report."""

import pytest

from app import erasing
from app.core.database import transaction

NO_SERVICE = "Send result: RESULT_ERROR_NO_SERVICE (Failed because service is currently unavailable)"
# Nobody knows whether it left, so that no other phone tries.
FAILED = "Send result: RESULT_ERROR_GENERIC_FAILURE (1)"


def test_a_campaign_is_made_into_messages_sent_and_finished(client, phone, campaign, ask, look, counts, show):
    number = campaign(recipients=5)
    assert counts(number) == {"not_made": 5}
    assert ask(number, "start")["data"]["status"] == "running"
    look()
    assert counts(number) == {"waiting": 5}
    pulled = phone.pull()
    assert len(pulled) == 5
    assert counts(number) == {"given": 5}
    for message in pulled[:3]:
        phone.send(message["id"])
    phone.report(pulled[3]["id"], "Failed", error=FAILED)
    assert counts(number) == {"given": 1, "delivered": 3, "failed": 1}
    look()
    assert show(number)["status"] == "running"
    phone.send(pulled[4]["id"])
    look()
    shown = show(number)
    assert (shown["status"], shown["finished_at"] is not None) == ("finished", True)
    assert counts(number) == {"delivered": 4, "failed": 1}
    assert sorted(phone.on_air) == sorted({*phone.on_air}), "each once"


def test_after_a_pause_nothing_is_given_until_it_is_resumed(phone, campaign, ask, look, counts):
    number = campaign(recipients=30)
    ask(number, "start")
    look()
    given = phone.pull()
    told = ask(number, "pause")["data"]
    assert told["status"] == "paused"
    assert told["paused_by"] == "owner"
    assert told["reason"] == "You paused the campaign."
    held = {"given": len(given), "held": 30 - len(given)}
    assert counts(number) == held
    look()
    assert [message["id"] for message in phone.pull() if message["id"] not in phone.held] == []
    assert counts(number) == held
    assert ask(number, "pause")["data"]["status"] == "paused", "twice is once"
    told = ask(number, "resume")["data"]
    assert (told["status"], told["paused_by"], told["reason"]) == ("running", None, None)
    assert ask(number, "resume")["data"]["status"] == "running"
    for message in given:
        phone.send(message["id"])
    look()
    assert phone.pull()
    counts(number)


def test_a_cancel_withdraws_what_waits_and_asks_phones_for_the_rest(phone, campaign, ask, look, counts, show):
    number = campaign(recipients=300)
    ask(number, "start")
    look()
    given = phone.pull()
    for message in given[:2]:
        phone.send(message["id"])
    told = ask(number, "cancel")["data"]
    assert told["status"] == "cancelled"
    made = counts(number)
    assert made.pop("given") == len(given) - 2
    assert made == {"delivered": 2, "cancelled": 200 - len(given), "not_made": 100}
    assert ask(number, "cancel")["data"]["status"] == "cancelled", "twice is once"
    assert ask(number, "pause", 422)["reason_code"] == "campaign_not_allowed"
    look()
    assert counts(number)["not_made"] == 100
    for message in phone.pull():
        assert message["id"] in {each["id"] for each in given}


def test_a_draft_starts_at_its_time(campaign, ask, look, show, sql, phone):
    number = campaign()
    assert ask(number, "start", start_at="2999-01-01T00:00:00Z")["data"]["status"] == "scheduled"
    look()
    assert show(number)["status"] == "scheduled"
    sql.execute("UPDATE campaigns SET start_at = clock_timestamp(), next_look_at = clock_timestamp()")
    look()
    assert show(number)["status"] == "running"


def test_a_scheduled_campaign_starts_at_its_changed_time(campaign, ask, client, look, show, sql):
    number = campaign()

    def change(status=200, **values):
        answer = client.patch(f"/api/campaigns/{number}", json=values)
        assert answer.status_code == status, answer.text
        return answer.json()

    ask(number, "start", start_at="2999-01-01T00:00:00Z")
    change(start_at="2999-02-01T00:00:00Z", end_at="2999-03-01T00:00:00Z")
    assert sql.execute("SELECT next_look_at = start_at FROM campaigns").fetchone() == (True,)
    assert change(422, start_at=None)["errors"].keys() == {"start_at"}
    assert change(422, start_at="2999-03-01T00:00:00Z")["reason_code"] == "end_has_passed"
    change(start_at="2026-01-01T00:00:00Z")
    look()
    assert show(number)["status"] == "running"


def test_a_scheduled_text_cannot_come_to_speak_of_fields_that_nobody_has(campaign, ask, client, show):
    number = campaign()
    ask(number, "start", start_at="2026-12-31T00:00:00Z")
    answer = client.patch(f"/api/campaigns/{number}", json={"message": "Dear {sir}"})
    assert (answer.status_code, list(answer.json()["errors"])) == (422, ["message"])
    assert show(number)["message"] == "Hello"
    answer = client.patch(f"/api/campaigns/{number}", json={"end_at": "2026-12-30T00:00:00Z"})
    assert (answer.status_code, answer.json()["reason_code"]) == (422, "end_has_passed")
    assert client.patch(f"/api/campaigns/{number}", json={"message": "Dear {name}"}).status_code == 200


def test_what_a_phone_cannot_send_of_a_deleted_campaign_is_cancelled(enroll, campaign, ask, look, client, sql):
    # Its app cannot give messages back, and failover would choose the other one.
    phone, other = enroll(version="1.60.0"), enroll(name="other")
    assert other.pull() == []
    number = campaign(recipients=4)
    ask(number, "start")
    look()
    first, second = phone.pull()
    ask(number, "cancel")
    assert client.delete(f"/api/campaigns/{number}").status_code == 200
    phone.report(first["id"], "Failed", error=NO_SERVICE)
    for _ in range(2):
        with transaction() as session:
            erasing.erase(session)
    status = "SELECT status FROM messages WHERE message_id::text = left(%s, 36)"
    assert sql.execute(status, (first["id"],)).fetchone() == ("cancelled",)
    assert sql.execute("SELECT count(*) FROM held_campaigns").fetchone() == (1,)
    phone.report(second["id"], "Delivered")
    with transaction() as session:
        erasing.erase(session)
    left = "SELECT (SELECT count(*) FROM held_campaigns), (SELECT count(*) FROM message_queue)"
    assert sql.execute(left).fetchone() == (0, 0)


def test_what_cannot_be_asked_is_refused(campaign, ask, client, phone):
    number = campaign(recipients=0)
    assert ask(number, "start", 422)["reason_code"] == "no_recipients"
    for verb in ("pause", "resume", "retry-failed"):
        assert ask(number, verb, 422)["message"].startswith("The campaign is draft and cannot be")
    assert client.delete(f"/api/campaigns/{number}").status_code == 200
    assert client.get(f"/api/campaigns/{number}").status_code == 404


def test_failures_are_sent_again_and_the_campaign_finishes_again(phone, campaign, ask, look, counts, show):
    number = campaign(recipients=4)
    ask(number, "start")
    look()
    pulled = phone.pull()
    for message in pulled[:2]:
        phone.send(message["id"])
    for message in pulled[2:]:
        phone.report(message["id"], "Failed", error=FAILED)
    look()
    assert show(number)["status"] == "finished"
    assert ask(number, "retry-failed")["message"] == "Sending 2 messages again"
    assert counts(number) == {"delivered": 2, "failed": 2}
    assert show(number)["status"] == "running"
    look()
    assert counts(number) == {"delivered": 2, "waiting": 2}
    for message in phone.pull():
        phone.send(message["id"])
    look()
    assert show(number)["status"] == "finished"
    assert counts(number) == {"delivered": 4}
    assert ask(number, "retry-failed", 422)["reason_code"] == "nothing_to_retry"


def test_the_end_holds_for_what_is_sent_again_and_can_be_changed(phone, campaign, ask, look, counts, show, client, sql):
    number = campaign(recipients=3, end_at="2999-01-01")
    ask(number, "start")
    look()
    for message in phone.pull():
        phone.report(message["id"], "Failed", error=FAILED)
    look()
    passed = "UPDATE campaigns SET end_at = clock_timestamp() - interval '1 minute'"
    sql.execute(passed)
    assert ask(number, "retry-failed", 422)["reason_code"] == "end_has_passed"
    change = {"end_at": "2999-01-01", "rate_per_minute": 60, "hours": None}
    assert client.patch(f"/api/campaigns/{number}", json=change).status_code == 200
    ask(number, "retry-failed")
    sql.execute(passed)
    look()
    assert (show(number)["status"], show(number)["paused_by"]) == ("paused", "end_at")
    assert counts(number) == {"failed": 3}


def test_what_is_sent_again_is_valid_for_as_long_as_the_campaign_says(phone, campaign, ask, look, counts, sql, work):
    from app.messages.life import expiry

    number = campaign(recipients=2, validity_period=3600)
    ask(number, "start")
    look()
    for message in phone.pull():
        phone.report(message["id"], "Failed", error=FAILED)
    look()
    ask(number, "retry-failed")
    look()
    seconds = "SELECT EXTRACT(epoch FROM valid_until - clock_timestamp()) BETWEEN 3500 AND 3600 FROM"
    assert sql.execute(f"{seconds} messages UNION ALL {seconds} message_queue").fetchall() == [(True,)] * 4
    sql.execute("UPDATE message_queue SET valid_until = clock_timestamp() - interval '1 second'")
    work(expiry.expire)
    assert counts(number) == {"failed": 2}


def test_what_waits_to_be_sent_again_is_listed_as_it_is_counted(client, phone, campaign, ask, look, counts):
    number = campaign(recipients=3)
    ask(number, "start")
    look()
    for message in phone.pull()[:2]:
        phone.report(message["id"], "Failed", error=FAILED)
    look()
    ask(number, "retry-failed")
    ask(number, "cancel")
    assert counts(number) == {"failed": 2, "given": 1}
    listed = client.get(f"/api/campaigns/{number}/recipients").json()["data"]["data"]
    assert [row["state"] for row in listed] == ["failed", "failed", "given"]


@pytest.mark.parametrize(
    "rule", [{"same_content_minutes": 60}, {"frequency_cap": {"messages": 1, "days": 7}}], ids=["guard", "cap"]
)
def test_what_may_have_been_sent_does_not_stand_in_its_own_way(  # noqa: PLR0917 - fixtures
    rule, client, phone, campaign, ask, look, counts, sql, work
):
    from app.messages.life import expiry

    client.put("/api/settings", json=rule)
    number = campaign(recipients=1)
    ask(number, "start")
    look()
    phone.pull()
    sql.execute("UPDATE message_queue SET valid_until = clock_timestamp() - interval '1 hour'")
    work(expiry.expire)
    assert counts(number) == {"failed": 1, "uncertain": 1}
    ask(number, "retry-failed", uncertain=True)
    look()
    assert counts(number) == {"waiting": 1}
    ask(second := campaign(recipients=1), "start")
    look()
    assert counts(second) == {"left_out": 1}


def test_a_duplicate_has_the_same_recipients(campaign, ask, client, counts):
    number = campaign(recipients=4, rate_per_minute=60, stop_rule={"failed_share": 0.5, "of_last": 10})
    answer = client.post(f"/api/campaigns/{number}/duplicate")
    assert answer.status_code == 201
    copied = answer.json()["data"]
    assert (copied["status"], copied["rate_per_minute"], copied["counts"]["recipients"]) == ("draft", 60, 4)
    assert copied["stop_rule"] == {"failed_share": 0.5, "of_last": 10}
    assert counts(copied["id"]) == {"not_made": 4}


def test_a_former_holders_campaigns_stop(phone, campaign, ask, look, show, sql, work, ali):
    from app import erasing

    running, scheduled, kept = (campaign() for _ in range(3))
    ask(running, "start")
    look()
    ask(scheduled, "start", start_at="2999-01-01")
    sql.execute("UPDATE campaigns SET created_at = clock_timestamp() + interval '1 hour' WHERE id = %s", (kept,))
    ask(kept, "start", start_at="2999-01-01")
    sql.execute("UPDATE users SET withdraw_before = clock_timestamp() WHERE id = %s", (ali.id,))
    work(erasing.erase)
    look()
    assert [show(number)["status"] for number in (running, scheduled, kept)] == ["cancelled", "cancelled", "scheduled"]
    assert phone.pull() == []


def test_what_comes_to_wait_during_a_pause_is_held_in_the_end(phone, campaign, ask, look, sql, counts):
    number = campaign(recipients=30)
    ask(number, "start")
    look()
    given = phone.pull()
    ask(number, "pause")
    # As a retry writes it whose transaction began before the pause.
    sql.execute(
        "UPDATE message_queue SET stage = 0"
        " WHERE message_id = (SELECT min(message_id) FROM message_queue WHERE stage = 3)"
    )
    assert [message for message in phone.pull() if message["id"] not in {one["id"] for one in given}] == []
    sql.execute("UPDATE campaigns SET next_look_at = clock_timestamp()")
    look()
    assert counts(number) == {"given": len(given), "held": 30 - len(given)}
