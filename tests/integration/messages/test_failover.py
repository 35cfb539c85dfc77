"""A message that certainly did not leave its phone is tried on another."""

import pytest

NO_SERVICE = "Send result: RESULT_ERROR_NO_SERVICE (Failed because service is currently unavailable)"
GENERIC = "Send result: RESULT_ERROR_GENERIC_FAILURE (Generic failure cause)"


@pytest.fixture
def phones(enroll):
    """Four phones that are online."""
    made = [enroll(name=f"phone {number}") for number in range(4)]
    for phone in made:
        assert phone.pull() == []
    return made


@pytest.fixture
def route(work, ali):
    from app.messages.dispatch import routing

    return lambda: work(routing.route_waiting, ali.id)


@pytest.fixture
def hooked(sql, ali):
    """The bodies of what the account's status URL and callbacks are told."""
    sql.execute(
        "INSERT INTO webhook_urls (user_id, hook, url, origin)"
        " VALUES (%s, 'status', 'http://example.org/s', 'http://example.org:80')",
        (ali.id,),
    )

    def told():
        rows = sql.execute("SELECT hook, body::json->'data'->>'status' FROM webhook_deliveries ORDER BY id")
        return [tuple(row) for row in rows]

    return told


@pytest.fixture
def queue(client, configured, phones, route):
    configured(WEBHOOK_ALLOWED_NETWORKS="127.0.0.0/8")

    def post(message="Hello", **fields):
        body = {"message": message, "recipient_number": "+998901112233", "device_id": "active"} | fields
        answer = client.post("/api/sms", json=body)
        assert answer.status_code == 201, answer.text
        route()
        return answer.json()["data"]

    return post


def taken(phones):
    """Who has something to send, and what."""
    found = [(phone, message) for phone in phones for message in phone.pull()]
    assert len(found) <= 1, "one phone at a time"
    return found[0] if found else None


def show(client, message):
    return client.get(f"/api/sms/{message['id']}").json()["data"]


def stages(client, message):
    data = client.get(f"/api/sms/{message['id']}/timeline").json()["data"]
    return [(stage["stage"], stage["device_name"], stage["attempt"]) for stage in data["stages"]]


def test_it_goes_to_another_phone_and_nobody_hears_of_the_failure(client, phones, queue, hooked):
    message = queue(callback_url="http://127.0.0.1:9/callback")
    first, pulled = taken(phones)
    assert first.report(pulled["id"], "Failed", error=NO_SERVICE) == 204
    assert (show(client, message)["status"], hooked()) == ("pending", [])
    second, again = taken(phones)
    assert second is not first
    assert again["id"] != pulled["id"], "a try has a name of its own"
    assert again["textMessage"] == pulled["textMessage"]
    second.send(again["id"])
    shown = show(client, message)
    assert (shown["status"], shown["error_message"]) == ("delivered", None)
    assert hooked() == [("status", "sent"), ("status", "delivered"), ("callback", "delivered")]
    assert stages(client, message) == [
        ("queued", None, 1),
        ("routed", first.name, 1),
        ("released", first.name, 1),
        ("accepted", first.name, 1),
        ("failed", first.name, 1),
        ("routed", second.name, 2),
        ("released", second.name, 2),
        ("accepted", second.name, 2),
        ("sent", second.name, 2),
        ("delivered", second.name, 2),
    ]
    stats = client.get("/api/account").json()["data"]["stats"]
    assert (stats["total_sent"], stats["total_delivered"], stats["total_failed"]) == (1, 1, 0)


def test_at_most_twice_more_and_then_it_failed_once(client, phones, queue, hooked):
    message = queue(callback_url="http://127.0.0.1:9/callback")
    used = []
    while found := taken(phones):
        phone, pulled = found
        used.append(phone)
        phone.report(pulled["id"], "Failed", error=NO_SERVICE)
        phone.report(pulled["id"], "Failed", error=NO_SERVICE)
    assert len(used) == len(set(used)) == 3
    shown = show(client, message)
    assert (shown["status"], shown["error_message"]) == ("failed", NO_SERVICE)
    assert hooked() == [("status", "failed"), ("callback", "failed")]
    stats = client.get("/api/account").json()["data"]["stats"]
    assert (stats["total_sent"], stats["total_failed"], stats["total_pending"]) == (1, 1, 0)
    failed = [name for stage, name, _ in stages(client, message) if stage == "failed"]
    assert failed == [phone.name for phone in used]


def test_the_owners_retry_begins_with_new_tries(client, phones, queue):
    message = queue()
    while found := taken(phones):
        found[0].report(found[1]["id"], "Failed", error=NO_SERVICE)
    assert client.post(f"/api/sms/{message['id']}/retry").status_code == 200
    assert [stage for stage, *_ in stages(client, message)].count("retried") == 1


@pytest.mark.parametrize(
    ("fields", "error", "states"),
    [
        ({}, GENERIC, None),
        ({}, None, None),
        ({}, "Delivery result: 64", None),
        ({}, NO_SERVICE, "Sent"),
        ({"message": "long " * 60}, NO_SERVICE, None),
    ],
    ids=["may have left", "says nothing", "not delivered", "left before", "a part may have left"],
)
def test_what_may_have_left_is_not_sent_twice(client, phones, queue, fields, error, states):
    message = queue(**fields)
    first, pulled = taken(phones)
    history = {states: first.now(), "Failed": first.now()} if states else None
    first.report(pulled["id"], "Failed", error=error, states=history)
    assert show(client, message)["status"] == "failed"
    assert taken(phones) is None


def test_a_long_message_goes_on_where_no_part_of_it_can_have_left(client, phones, queue):
    message = queue(message="long " * 60)
    first, pulled = taken(phones)
    first.report(pulled["id"], "Failed", error="Send result: RESULT_ERROR_LIMIT_EXCEEDED (…)")
    assert show(client, message)["status"] == "pending"


@pytest.mark.parametrize("validity", [None, 3600])
def test_what_has_expired_by_the_phones_clock_alone_goes_on(client, phones, queue, hooked, validity):
    message = queue(**({"validity_period": validity} if validity else {}))
    first, pulled = taken(phones)
    first.report(pulled["id"], "Failed", error="TTL expired")
    second, again = taken(phones)
    second.send(again["id"])
    assert show(client, message)["status"] == "delivered"
    assert hooked() == [("status", "sent"), ("status", "delivered")]


def test_what_has_expired_at_the_phone_does_not(client, phones, queue, later):
    message = queue()
    first, pulled = taken(phones)
    later(24 * 3600 + 1)
    for phone in phones:
        phone.pull()
    first.report(pulled["id"], "Failed", error="TTL expired")
    assert show(client, message)["status"] == "failed"


@pytest.mark.parametrize("why", ["named", "switched off", "no other", "others offline", "asked back", "expired"])
def test_it_stays_failed(client, phones, queue, sql, later, why):
    named = {"device_id": phones[0].device_id} if why == "named" else {}
    if why == "switched off":
        assert client.put("/api/settings", json={"failover": False}).status_code == 200
    message = queue(**named, **({"validity_period": 300} if why == "expired" else {}))
    first, pulled = taken(phones)
    for phone in phones:
        if why == "no other" and phone is not first:
            client.patch(f"/api/devices/{phone.device_id}", json={"is_active": False})
    if why == "others offline":
        sql.execute(
            "UPDATE device_state s SET seen_at = clock_timestamp() - interval '1 day', pulled_at = NULL"
            " FROM devices d WHERE d.id = s.device_id AND d.device_id <> %s",
            (first.device_id,),
        )
    if why == "asked back":
        client.post(f"/api/sms/{message['id']}/cancel")
    if why == "expired":
        later(301)
    first.report(pulled["id"], "Failed", error=NO_SERVICE)
    assert show(client, message)["status"] == "failed"
    assert sql.execute("SELECT count(*) FROM message_queue").fetchone() == (0,)


def test_the_default_phone_is_where_it_begins_and_not_a_phone_that_was_named(client, phones, queue):
    client.post("/api/devices/default-device", json={"device_id": phones[2].device_id})
    message = queue(device_id=None)
    first, pulled = taken(phones)
    assert first is phones[2]
    first.report(pulled["id"], "Failed", error=NO_SERVICE)
    assert show(client, message)["status"] == "pending"


def test_a_late_sent_of_the_first_phone_is_believed(client, phones, queue, hooked):
    """As with an owner's retry: it left after all, so there is no second sending that nobody has begun."""
    message = queue()
    first, pulled = taken(phones)
    first.report(pulled["id"], "Failed", error=NO_SERVICE)
    first.report(pulled["id"], "Failed", error=NO_SERVICE, states={"Sent": first.now(), "Failed": first.now()})
    assert show(client, message)["status"] == "pending", "a failure with its history ends no second sending"
    first.report(pulled["id"], "Sent")
    assert show(client, message)["status"] == "sent"
    assert taken(phones) is None
    assert hooked() == [("status", "sent")]


def test_one_batch_may_hold_the_failure_twice_and_the_taking_of_it(client, phones, queue):
    message = queue()
    first, pulled = taken(phones)
    failed = first.item(pulled["id"], "Failed", error=NO_SERVICE)
    assert first.report_all([first.item(pulled["id"], "Processed"), failed, failed]) == 204
    assert show(client, message)["status"] == "pending"
    assert [stage for stage, *_ in stages(client, message)].count("failed") == 1
    second, again = taken(phones)
    second.send(again["id"])
    assert show(client, message)["status"] == "delivered"


def test_many_failures_of_one_phone_are_spread_over_the_others(client, phones, sql, route):
    others = phones[1:]
    client.post("/api/devices/default-device", json={"device_id": phones[0].device_id})
    body = {"message": "x", "recipients": [f"+99890111{number:04}" for number in range(12)]}
    assert client.post("/api/sms/bulk", json=body).status_code == 201
    items = [phones[0].item(pulled["id"], "Failed", error=NO_SERVICE) for pulled in phones[0].pull()]
    assert len(items) == 12
    phones[0].report_all(items)
    assert [len(phone.pull()) for phone in others] == [4, 4, 4]


def test_a_move_stays_in_the_timeline(client, phones, queue, work, sql, ali):
    from app.messages.life import moving

    message = queue()
    (first,) = sql.execute("SELECT device_name FROM devices d JOIN message_queue q ON q.device_id = d.id").fetchone()
    phone = next(phone for phone in phones if phone.name == first)
    client.patch(f"/api/devices/{phone.device_id}", json={"is_active": False})
    work(moving.move, ali.id)
    assert stages(client, message) == [("queued", None, 1), ("routed", first, 1), ("moved", first, 1)]


def test_steps_are_purged_with_their_message(client, phones, queue, work, sql):
    from app.messages.life import cleaning

    message = queue()
    first, pulled = taken(phones)
    first.report(pulled["id"], "Failed", error=NO_SERVICE)
    second, again = taken(phones)
    second.send(again["id"])
    client.delete(f"/api/sms/{message['id']}")
    sql.execute("UPDATE messages SET deleted_at = deleted_at - interval '8 days'")
    for statement in cleaning.STATEMENTS:
        work(cleaning.clean, statement)
    assert sql.execute("SELECT count(*) FROM message_steps").fetchone() == (0,)
