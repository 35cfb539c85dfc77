"""Sending one SMS: what is taken, what it costs, which phone, and what is refused."""

import pytest

from tests.support.guards import refuses_strangers
from tests.support.messages_of import add_phone

PATH = "/api/sms"
BODY = {"message": "Hello", "recipient_number": "+998901234567"}
ANY = {"message": "x", "recipient_number": "+998901234567"}


@pytest.fixture
def send(api, ali):
    def call(headers=None, **body):
        return api.post(PATH, json={**BODY, **body}, headers=headers or ali.headers)

    return call


def test_who_may_send(api, ali, sql, configured):
    add_phone(sql, ali)
    refuses_strangers(api, ali, "POST", PATH, "sms:send", body=BODY)
    configured(FREE_FEATURES="api,bulk")
    refused = api.post(PATH, json={**BODY, "callback_url": "https://example.com/cb"}, headers=ali.headers)
    premium = {"success": False, "message": "This feature requires Premium.", "upgrade": True}
    assert (refused.status_code, refused.json()) == (403, premium)
    assert api.post(PATH, json=BODY, headers=ali.headers).status_code == 201


def test_the_answer(send, ali, sql):
    phone = add_phone(sql, ali, default=True)
    answer = send(
        recipient_number=" +998 (90) 123.45-67", my_id=" order-1 ", callback_url="https://example.com/sms/callback"
    )
    assert answer.status_code == 201
    body = answer.json()
    data = body.pop("data")
    assert body == {"success": True, "message": "SMS queued for sending"}
    number, uuid = data.pop("id"), data.pop("message_id")
    assert (type(number), len(uuid)) == (int, 36)
    assert data == {
        "recipient_number": "+998901234567",
        "status": "pending",
        "price": 100,
        "is_charged": False,
        "direction": "outbound",
        "callback_url": "https://example.com/sms/callback",
        "my_id": "order-1",
        "device_id": phone,
        "segments": 1,
        "encoding": "gsm7",
    }
    # A JSON number as people write it.
    assert '"price":100,' in answer.text


def test_which_phone_and_what_it_costs(send, ali, other, sql):
    idle, named = add_phone(sql, ali, active=False), add_phone(sql, ali)
    theirs = add_phone(sql, other)
    sql.execute("UPDATE devices SET sms_rate = 7.5 WHERE id = %s", (named,))
    [own_name] = sql.execute("SELECT device_id FROM devices WHERE id = %s", (named,)).fetchone()

    def told(**body):
        data = send(**body).json()["data"]
        return data["device_id"], data["price"]

    assert told() == (None, 100)
    assert told(device_id="active") == (None, 100)
    for reference in (named, str(named), own_name):
        assert told(device_id=reference) == (named, 7.5)
    assert told(device_id=named, price=0) == (named, 0)
    assert told(price="0.1250") == (None, 0.125)
    sql.execute("UPDATE users SET default_device_id = %s WHERE id = %s", (named, ali.id))
    assert told() == (named, 7.5)
    assert told(device_id="active") == (None, 7.5)
    sql.execute("UPDATE users SET default_device_id = %s WHERE id = %s", (idle, ali.id))
    assert told()[0] is None
    for reference in (theirs, "nobody", 0, -1, 10**30):
        answer = send(device_id=reference)
        assert (answer.status_code, answer.json()["errors"]) == (
            422,
            {"device_id": ["The selected device id is invalid."]},
        )
    none = {"success": False, "message": "No active device available"}
    assert send(device_id=idle).json() == none
    sql.execute("UPDATE devices SET is_active = false")
    for reference in (None, "active"):
        answer = send(device_id=reference)
        assert (answer.status_code, answer.json()) == (422, none)


def test_either_name_of_the_number(api, ali, sql):
    add_phone(sql, ali)
    for fields, taken in (
        ({"phone": "+998901112233"}, "+998901112233"),
        ({"recipient_number": "", "phone": "+998901112233"}, "+998901112233"),
        ({"recipient_number": "  ", "phone": "+998901112233"}, "+998901112233"),
        ({"recipient_number": "+998901234567", "phone": "+998901112233"}, "+998901234567"),
    ):
        answer = api.post(PATH, json={"message": "x", **fields}, headers=ali.headers)
        assert answer.json()["data"]["recipient_number"] == taken
    form = api.post(PATH, data={"message": "x", "phone": "+998901112233"}, headers=ali.headers)
    assert form.status_code == 201


@pytest.mark.parametrize(
    ("change", "errors"),
    [
        ({"message": None}, {"message": ["The message field is required."]}),
        ({"message": "  "}, {"message": ["The message field is required."]}),
        ({"message": "x" * 1601}, {"message": ["The message field must not be greater than 1600 characters."]}),
        ({"message": 5}, {"message": ["The message field must be a string."]}),
        ({"recipient_number": ""}, {"recipient_number": ["The recipient number field is required."]}),
        (
            {"recipient_number": "901234567"},
            {
                "recipient_number": [
                    "The recipient number field must be a valid phone number, with + and the country code."
                ]
            },
        ),
        ({"price": -1}, {"price": ["The price field must be at least 0."]}),
        ({"price": 1_000_000_001}, {"price": ["The price field must not be greater than 1000000000."]}),
        ({"price": "0.00001"}, {"price": ["The price field must have 0-4 decimal places."]}),
        ({"price": "much"}, {"price": ["The price field must be a number."]}),
        ({"my_id": "x" * 256}, {"my_id": ["The my id field must not be greater than 255 characters."]}),
        ({"device_id": []}, {"device_id": ["The selected device id is invalid."]}),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_is_wrong_is_named(send, ali, sql, change, errors):
    add_phone(sql, ali)
    answer = send(**change)
    assert (answer.status_code, answer.json()["errors"]) == (422, errors)
    assert sql.execute("SELECT count(*) FROM messages").fetchone() == (0,)


def test_a_message_is_kept_as_it_is_written(api, send, ali, sql):
    add_phone(sql, ali)
    for text in ("  spaces around \n", "ў" * 1600, "😀" * 1600, "Dear {name}"):
        number = send(message=text).json()["data"]["id"]
        shown = api.get(f"{PATH}/{number}", headers=ali.headers).json()["data"]
        assert (shown["message"], shown["device_id"]) == (text, None)


def test_other_methods_are_told_what_is_supported(api, ali):
    answer = api.put(PATH, json=BODY, headers=ali.headers)
    assert (answer.status_code, answer.headers["Allow"]) == (405, "GET, HEAD, POST")
    assert answer.json()["message"] == (
        "The PUT method is not supported for route api/sms. Supported methods: GET, HEAD, POST."
    )
