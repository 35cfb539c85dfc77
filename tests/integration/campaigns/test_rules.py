"""When campaigns pause by themselves, and that their owners are told."""

import json

import pytest

FAILED = "Send result: RESULT_ERROR_GENERIC_FAILURE (1)"


@pytest.fixture
def fail(phone):
    return lambda message: phone.report(message["id"], "Failed", error=FAILED)


def test_the_canary_lets_the_others_follow_once_enough_arrived(phone, campaign, ask, look, counts, show):
    number = campaign(recipients=20, canary={"first": 4, "delivered_share": 0.5, "within_minutes": 30})
    ask(number, "start")
    look()
    look()
    assert counts(number) == {"waiting": 4, "not_made": 16}
    pulled = phone.pull()
    phone.send(pulled[0]["id"])
    look()
    assert counts(number) == {"given": 3, "delivered": 1, "not_made": 16}
    phone.send(pulled[1]["id"])
    look()
    assert counts(number) == {"given": 2, "delivered": 2, "waiting": 16}
    assert show(number)["status"] == "running"


def test_the_canary_pauses_as_soon_as_it_cannot_pass(phone, campaign, ask, look, counts, show, fail):
    number = campaign(recipients=20, canary={"first": 4, "delivered_share": 0.5, "within_minutes": 30})
    ask(number, "start")
    look()
    for message in phone.pull()[:3]:
        fail(message)
    look()
    shown = show(number)
    assert (shown["status"], shown["paused_by"]) == ("paused", "canary")
    assert shown["reason"] == ("Of the first 4 messages 0 were delivered; the canary asks for 50% within 30 minutes.")
    assert shown["figures"] == {
        "first": 4, "delivered": 0, "sent": 0, "failed": 3, "share": 0.5, "within_minutes": 30
    }  # fmt: skip
    look()
    assert counts(number) == {"failed": 3, "given": 1, "not_made": 16}
    ask(number, "resume")
    look()
    assert counts(number) == {"failed": 3, "given": 1, "waiting": 16}, "its owner wants it to go on"


def test_the_canary_waits_no_longer_than_it_may(phone, campaign, ask, look, show, sql):
    number = campaign(recipients=20, canary={"first": 4, "sent_share": 1, "within_minutes": 30})
    ask(number, "start")
    look()
    for message in phone.pull()[:3]:
        phone.report(message["id"], "Sent")
    look()
    assert show(number)["status"] == "running"
    sql.execute("UPDATE campaigns SET canary_made_at = canary_made_at - interval '31 minutes'")
    look()
    shown = show(number)
    assert (shown["status"], shown["reason_code"]) == ("paused", "canary_not_sent")
    assert shown["reason"] == "Of the first 4 messages 3 were sent; the canary asks for 100% within 30 minutes."


def test_the_canarys_time_does_not_run_during_a_pause(phone, campaign, ask, look, show, sql):
    number = campaign(recipients=20, canary={"first": 4, "delivered_share": 0.5, "within_minutes": 30})
    ask(number, "start")
    look()
    look()
    ask(number, "pause")
    sql.execute("UPDATE campaigns SET canary_made_at = canary_made_at - interval '31 minutes'")
    ask(number, "resume")
    look()
    assert show(number)["status"] == "running"
    sql.execute("UPDATE campaigns SET canary_made_at = canary_made_at - interval '31 minutes'")
    look()
    assert show(number)["paused_by"] == "canary"


def test_phones_without_delivery_reports_are_not_waited_for(phone, campaign, ask, look, show, sql, device_number):
    sql.execute(
        "INSERT INTO device_totals (device_id, day, sim_slot, kind, detail, n)"
        " VALUES (%s, current_date, 0, 'sent', '', 50)",
        (device_number(phone),),
    )
    number = campaign(recipients=20, canary={"first": 4, "delivered_share": 0.5, "within_minutes": 30})
    ask(number, "start")
    look()
    for message in phone.pull():
        phone.report(message["id"], "Sent")
    look()
    shown = show(number)
    assert (shown["status"], shown["reason_code"]) == ("paused", "canary_without_reports")
    assert "sent_share" in shown["reason"]


def test_the_stop_rule_pauses_within_a_batch(  # noqa: PLR0917 - fixtures
    phone, campaign, ask, look, show, counts, fail, mailbox, client, sql
):
    client.put("/api/webhooks", json={"webhook_url_status": "https://example.com/s"})
    number = campaign(recipients=300, stop_rule={"failed_share": 0.5, "of_last": 10})
    ask(number, "start")
    look()
    pulled = phone.pull()
    for message in pulled[:5]:
        phone.report(message["id"], "Sent")
    for message in pulled[5:9]:
        fail(message)
    look()
    assert show(number)["status"] == "running", "only nine results"
    fail(pulled[9])
    mails = look()
    shown = show(number)
    assert (shown["status"], shown["paused_by"]) == ("paused", "stop_rule")
    assert shown["reason"] == "Of the last 10 messages 5 failed; the stop rule allows less than 50%."
    assert shown["figures"] == {"failed": 5, "of_last": 10, "failed_share": 0.5}
    look()
    told = counts(number)
    assert "waiting" not in told
    assert told["not_made"] >= 80

    from app.campaigns import notices

    notices.post(mails)
    [mail] = mailbox.mails
    assert mail["Subject"] == "Campaign paused: Sale"
    assert shown["reason"] in mail.get_content()
    [(body,)] = sql.execute("SELECT body FROM webhook_deliveries WHERE event = 'campaign'").fetchall()
    event = json.loads(body)
    assert (event["event"], event["data"]["id"], event["data"]["paused_by"]) == ("campaign", number, "stop_rule")
    ask(number, "resume")
    look()
    assert show(number)["status"] == "running", "counted anew"


def test_what_is_sent_again_is_not_judged_by_what_failed_before(phone, campaign, ask, look, show, counts):
    rules = {
        "stop_rule": {"failed_share": 0.5, "of_last": 4},
        "canary": {"first": 4, "delivered_share": 1, "within_minutes": 30},
    }
    number = campaign(recipients=4, **rules)
    ask(number, "start")
    look()
    pulled = phone.pull()
    for message in pulled:
        phone.report(message["id"], "Sent")
    look()
    assert show(number)["status"] == "finished"
    for message in pulled:
        phone.report(message["id"], "Failed", error=FAILED)
    ask(number, "retry-failed")
    look()
    assert show(number)["status"] == "running"
    assert counts(number) == {"waiting": 4}


def test_the_end_pauses_what_is_not_sent(phone, campaign, ask, look, show, client, sql):
    number = campaign(recipients=5)
    ask(number, "start")
    sql.execute("UPDATE campaigns SET end_at = clock_timestamp()")
    look()
    shown = show(number)
    assert (shown["status"], shown["paused_by"], shown["reason_code"]) == ("paused", "end_at", "end_reached")
    assert ask(number, "resume", 422)["reason_code"] == "end_has_passed"
    assert client.patch(f"/api/campaigns/{number}", json={"end_at": None}).status_code == 200
    assert ask(number, "resume")["data"]["status"] == "running"


def test_a_plan_that_ends_pauses(phone, campaign, ask, look, show, configured):
    number = campaign(recipients=5)
    ask(number, "start")
    configured(FREE_FEATURES="api")
    look()
    assert (show(number)["status"], show(number)["paused_by"]) == ("paused", "plan")
    assert ask(number, "resume", 403)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("canary", {"first": 4, "within_minutes": 3}),
        ("canary", {"first": 4, "delivered_share": 0.5, "sent_share": 0.5, "within_minutes": 3}),
        ("canary", {"first": 0, "sent_share": 0.5, "within_minutes": 3}),
        ("stop_rule", {"failed_share": 0, "of_last": 3}),
        ("stop_rule", {"failed_share": 1.5, "of_last": 3}),
        ("stop_rule", {"failed_share": 0.5}),
        ("rate_per_minute", 0),
        ("device_id", []),
        ("device_id", [999]),
    ],
)
def test_rules_that_make_no_sense_are_refused(client, field, value):
    answer = client.post("/api/campaigns", json={"name": "x", "message": "y", field: value})
    assert answer.status_code == 422
    assert all(name.startswith(field) for name in answer.json()["errors"])
