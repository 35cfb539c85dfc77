"""Lists of messages, one message, and the delivery statistics."""

from datetime import UTC, datetime, timedelta

import pytest

from tests.support.guards import is_not_found, refuses_strangers
from tests.support.messages_of import add_message, add_phone

LISTS = ("/api/sms", "/api/sms/outbox", "/api/sms/inbox")
KEYS = {
    *("id", "message_id", "my_id", "device_id", "recipient_number", "sender_number", "message", "direction", "status"),
    *("price", "is_charged", "sim_slot", "segments", "encoding", "uncertain", "callback_url", "error_message"),
    *("sent_at", "delivered_at", "created_at", "updated_at"),
}
PAGE_KEYS = {
    *("current_page", "data", "first_page_url", "from", "last_page", "last_page_url", "links", "next_page_url", "path"),
    *("per_page", "prev_page_url", "to", "total", "total_exact", "next_cursor"),
}


def ids(answer) -> list[int]:
    assert answer.status_code == 200, answer.text
    return [item["id"] for item in answer.json()["data"]["data"]]


@pytest.fixture
def get(api, ali):
    def call(path="/api/sms", **query):
        return api.get(path, params=query, headers=ali.headers)

    return call


@pytest.mark.parametrize("path", [*LISTS, "/api/sms/delivery-stats", "/api/sms/1"])
def test_who_may_read(api, ali, sql, path):
    add_message(sql, ali)
    refuses_strangers(api, ali, "GET", path, "sms:read")


def test_a_page_has_all_of_laravels_keys(get, ali, sql):
    made = [add_message(sql, ali) for _ in range(3)]
    data = get(per_page=2).json()["data"]
    assert data.keys() == PAGE_KEYS
    assert [item["id"] for item in data["data"]] == [made[2], made[1]]
    assert (data["total"], data["total_exact"], data["last_page"], data["from"], data["to"]) == (3, True, 2, 1, 2)
    assert data["data"][0].keys() >= KEYS
    assert data["data"][0]["price"] == 100
    assert ids(get(per_page=2, page=2)) == [made[0]]
    past = get(page=99).json()["data"]
    assert (past["data"], past["from"], past["to"], past["total"]) == ([], None, None, 3)


def test_nothing_of_others_and_nothing_deleted(api, get, ali, other, sql):
    mine, gone = add_message(sql, ali), add_message(sql, ali)
    theirs = add_message(sql, other)
    assert api.delete(f"/api/sms/{gone}", headers=ali.headers).status_code == 200
    answer = get()
    assert (ids(answer), answer.json()["data"]["total"]) == ([mine], 1)
    assert is_not_found(get(f"/api/sms/{gone}"), "SmsMessage")
    assert is_not_found(get(f"/api/sms/{theirs}"), "SmsMessage")
    [uuid] = sql.execute("SELECT message_id FROM messages WHERE id = %s", (theirs,)).fetchone()
    assert is_not_found(get(f"/api/sms/{uuid}"), "SmsMessage")


def test_one_message_by_number_and_by_uuid(get, ali, sql):
    made = add_message(sql, ali, my_id="order-1", sent_at=datetime(2026, 6, 8, 10, tzinfo=UTC))
    shown = get(f"/api/sms/{made}").json()
    assert shown["success"]
    assert shown["data"].keys() >= KEYS
    assert shown["data"]["sent_at"] == "2026-06-08T10:00:00.000000Z"
    assert get(f"/api/sms/{shown['data']['message_id']}").json() == shown
    for name in ("0", "99999999999999999999", "no-uuid", "-1", "1.5"):
        assert is_not_found(get(f"/api/sms/{name}"), "SmsMessage")


def test_filters(api, get, ali, other, sql):
    phone, removed = add_phone(sql, ali), add_phone(sql, ali, name="Old")
    foreign = add_phone(sql, other)
    sql.execute("UPDATE devices SET removed_at = now() WHERE id = %s", (removed,))
    [name] = sql.execute("SELECT device_id FROM devices WHERE id = %s", (phone,)).fetchone()
    delivered = add_message(sql, ali, device_id=phone, my_id="order-1", message="Your 100% code_1")
    failed = add_message(sql, ali, status="failed", device_id=removed, recipient_number="+998911111111")
    pending = add_message(sql, ali, status="pending", created_at=datetime.now(UTC) - timedelta(days=40))
    received = add_message(sql, ali, direction="inbound", sender_number="+998901234567", device_id=phone, message="Yes")
    short = add_message(sql, ali, direction="inbound", sender_number="Click")

    everything = [short, received, failed, delivered, pending]
    yesterday, today = (datetime.now(UTC) - timedelta(days=n) for n in (1, 0))
    for query, expected in (
        ({}, everything),
        ({"status": "", "direction": " "}, everything),
        ({"direction": "inbound"}, [short, received]),
        ({"direction": "outbound"}, [failed, delivered, pending]),
        ({"status": "failed"}, [failed]),
        ({"status": "received"}, [short, received]),
        ({"status": "received", "direction": "outbound"}, []),
        ({"status": "sent"}, []),
        ({"device_id": phone}, [received, delivered]),
        ({"device_id": name}, [received, delivered]),
        ({"device_id": name, "status": "delivered"}, [delivered]),
        ({"device_id": removed}, [failed]),
        ({"device_id": foreign}, []),
        ({"device_id": "nonsense"}, []),
        ({"number": "+998 90 123-45-67"}, [received, delivered, pending]),
        ({"number": "998901234567", "direction": "inbound"}, [received]),
        ({"number": "+998901234567", "status": "pending"}, [pending]),
        ({"number": "Click"}, [short]),
        ({"my_id": "order-1"}, [delivered]),
        ({"my_id": "order-1", "status": "failed"}, []),
        ({"from": yesterday.isoformat()}, everything[:-1]),
        ({"to": yesterday.date().isoformat()}, [pending]),
        ({"from": yesterday.date().isoformat(), "to": today.date().isoformat()}, everything[:-1]),
        ({"from": yesterday.isoformat(), "search": "CODE_1"}, [delivered]),
        ({"from": yesterday.isoformat(), "search": "0%"}, [delivered]),
        ({"from": yesterday.isoformat(), "search": "codeX1"}, []),
    ):
        answer = get(**query)
        assert ids(answer) == expected, query
        data = answer.json()["data"]
        assert (data["total"], data["total_exact"]) == (len(expected), True), query
    unencoded = f"/api/sms?from={yesterday.replace(tzinfo=None).isoformat()}+00:00"
    assert ids(api.get(unencoded, headers=ali.headers)) == everything[:-1]
    assert ids(get("/api/sms/outbox")) == [failed, delivered, pending]
    assert ids(get("/api/sms/outbox", direction="inbound")) == [failed, delivered, pending]
    assert ids(get("/api/sms/inbox", device_id=phone)) == [received]


@pytest.mark.parametrize(
    ("query", "errors"),
    [
        ({"status": "lost"}, {"status": ["The selected status is invalid."]}),
        ({"direction": "up"}, {"direction": ["The selected direction is invalid."]}),
        ({"per_page": "201"}, {"per_page": ["The per page field must not be greater than 200."]}),
        ({"status[]": "pending"}, {"status": ["The selected status is invalid."]}),
        ({"number[0]": "+1"}, {"number": ["The number field must be a string."]}),
        ({"per_page": "0"}, {"per_page": ["The per page field must be at least 1."]}),
        ({"per_page": "1_0"}, {"per_page": ["The per page field must be an integer."]}),
        ({"from": "soon"}, {"from": ["The from field must be a valid date."]}),
        ({"from": "2026-06-02", "to": "2026-06-01"}, {"to": ["The to field must be a date after or equal to from."]}),
        (
            {"search": "x"},
            {"search": ["The search field needs a date range of at most 31 days, given by from and to."]},
        ),
        (
            {"search": "x", "from": "2026-01-01", "to": "2026-03-01"},
            {"search": ["The search field needs a date range of at most 31 days, given by from and to."]},
        ),
        ({"cursor": "%%%"}, {"cursor": ["The selected cursor is invalid."]}),
        ({"cursor": "OTk5OTk5OTk5OTk5OTk5OTk5OTk5LjE"}, {"cursor": ["The selected cursor is invalid."]}),
        ({"cursor": "MS4tNQ"}, {"cursor": ["The selected cursor is invalid."]}),
    ],
)
@pytest.mark.parametrize("path", LISTS)
def test_what_is_wrong_is_named(get, path, query, errors):
    answer = get(path, **query)
    assert (answer.status_code, answer.json()["errors"]) == (422, errors)


def test_a_cursor_reads_everything_once_while_messages_come_in(api, get, ali, sql):
    moment = datetime.now(UTC) - timedelta(hours=1)
    # Of one moment, as those of a bulk send are, and of several.
    made = [add_message(sql, ali, created_at=moment) for _ in range(5)]
    made += [add_message(sql, ali, created_at=moment + timedelta(seconds=n)) for n in range(3)]
    expected = made[::-1]
    expected.remove(made[5])
    expected.insert(expected.index(made[4]), made[5])
    first = get(per_page=3, direction="outbound").json()["data"]
    seen = [item["id"] for item in first["data"]]
    cursor = first["next_cursor"]
    pages = 1
    while cursor:
        add_message(sql, ali)
        data = get(per_page=3, direction="outbound", cursor=cursor).json()["data"]
        assert data.keys() == PAGE_KEYS
        assert (data["from"], data["to"], data["prev_page_url"]) == (None, None, None)
        if data["next_cursor"]:
            following = api.get(data["next_page_url"], headers=ali.headers).json()["data"]["data"]
            assert following[0]["id"] < data["data"][-1]["id"]
        else:
            assert data["next_page_url"] is None
        seen += [item["id"] for item in data["data"]]
        cursor = data["next_cursor"]
        pages += 1
    assert seen == sorted(made, reverse=True)
    assert pages == 3


def test_totals_are_exact_to_ten_thousand(get, ali, sql):
    sql.execute(
        "INSERT INTO messages (message_id, user_id, direction, status, delivered_at, recipient_number, message, price,"
        " my_id) SELECT gen_random_uuid(), %s, 'outbound', 'delivered', now(), '+998901234567', 'x', 1,"
        " CASE WHEN i <= 10000 THEN 'even' ELSE 'odd' END FROM generate_series(1, 20001) i",
        (ali.id,),
    )
    sql.execute(
        "INSERT INTO usage_totals (user_id, day, kind, n, amount)"
        " SELECT %s, current_date, kind, 20001, 0 FROM unnest(ARRAY['accepted', 'sent', 'delivered']) kind",
        (ali.id,),
    )
    told = {}
    for query in ({}, {"status": "delivered"}, {"direction": "outbound"}, {"my_id": "even"}, {"my_id": "odd"}):
        data = get(**query).json()["data"]
        told[str(query)] = (data["total"], data["total_exact"])
    assert list(told.values()) == [(20001, True), (20001, True), (20001, True), (10000, True), (10000, False)]
    for page in (1, 7, 100, 200, 201):
        data = get(my_id="even", page=page).json()["data"]
        assert (data["total"], data["total_exact"], len(data["data"])) == (10000, True, 50 * (page < 201)), page
    for page in (1, 200, 202):
        data = get(my_id="odd", page=page).json()["data"]
        assert (data["total"], data["total_exact"]) == (10000, False), page
    # Behind the last counted page there is one more, and a way to it.
    last = get(my_id="odd", page=200).json()["data"]
    assert (len(last["data"]), last["last_page"]) == (50, 200)
    assert last["next_page_url"].endswith("page=201")
    beyond = get(my_id="odd", page=201).json()["data"]
    assert (len(beyond["data"]), beyond["next_page_url"]) == (1, None)


def test_totals_follow_deleting_and_status(api, get, ali, sql):
    first, second = add_message(sql, ali, status="sent"), add_message(sql, ali, status="sent")
    api.delete(f"/api/sms/{first}", headers=ali.headers)
    api.patch(f"/api/sms/{first}", json={"status": "delivered"}, headers=ali.headers)
    api.patch(f"/api/sms/{second}", json={"status": "delivered"}, headers=ali.headers)
    for query, expected in (({}, 1), ({"status": "sent"}, 0), ({"status": "delivered"}, 1)):
        answer = get(**query)
        assert (len(ids(answer)), answer.json()["data"]["total"]) == (expected, expected)


def test_delivery_stats(api, get, ali, sql):
    empty = get("/api/sms/delivery-stats")
    # A whole number is written as one.
    assert '"delivery_rate":0}' in empty.text
    zero = {"sent": 0, "delivered": 0, "failed": 0, "delivery_rate": 0}
    assert empty.json() == {
        "success": True,
        "data": {"today": zero, "this_week": zero, "this_month": zero, "scheduled": 0},
        "message": "Delivery statistics retrieved successfully",
    }
    for status in ["delivered"] * 7 + ["failed", "pending", "cancelled"]:
        add_message(sql, ali, status=status)
    stats = api.get("/api/sms/delivery-stats", headers=ali.headers)
    assert stats.json()["data"]["today"] == {"sent": 8, "delivered": 7, "failed": 1, "delivery_rate": 87.5}
