"""What a text comes to, before it is sent."""

import pytest

from tests.support.guards import refuses_strangers

PATH = "/api/sms/preview"


@pytest.fixture
def preview(api, ali):
    def call(message, **more):
        return api.post(PATH, json={"message": message, **more}, headers=ali.headers)

    return call


def told(answer) -> dict:
    assert answer.status_code == 200, answer.text
    return answer.json()["data"]


def test_strangers_are_refused(api, ali):
    refuses_strangers(api, ali, "POST", PATH, "sms:send", body={"message": "x"})


def test_plain_text(preview):
    assert told(preview("Your code is 4821")) == {
        "message": "Your code is 4821",
        "encoding": "gsm7",
        "segments": 1,
        "characters": 17,
        "forced_by": [],
        "price": 100,
    }


def test_what_forces_ucs2_and_what_could_stand_for_it(preview):
    data = told(preview("“Hi”\u00a0– it’s 5…" + "x" * 60))  # noqa: RUF001 - what it is about
    assert (data["encoding"], data["segments"], data["characters"]) == ("ucs2", 2, 74)
    assert {each["character"]: each["replacement"] for each in data["forced_by"]} == {
        "“": '"',
        "”": '"',
        "\u00a0": " ",
        "–": "-",  # noqa: RUF001 - what it is about
        "’": "'",  # noqa: RUF001 - what it is about
        "…": "...",
    }
    assert [each["character"] for each in told(preview("Жжж 😀"))["forced_by"]] == ["Ж", "ж", "😀"]
    assert {each["replacement"] for each in told(preview("Жжж 😀"))["forced_by"]} == {None}


def test_placeholders_are_filled_once(preview):
    fields = {"Name": "{city}", "city": "Bukhara", "empty": "", "nothing": None, "sum": 12.5}
    message = "{name}, {CITY }: {empty|none}/{nothing|there}/{other|default}/{empty}/{sum}/{name|x}"
    assert told(preview(message, fields=fields))["message"] == "{city}, Bukhara: none/there/default//12.5/{city}"
    # As in a single send, where no fields are given; a default stands by itself.
    assert told(preview("{name} {name|there} {} {{x}}"))["message"] == "{name} there {} {{x}}"


@pytest.mark.parametrize(
    ("body", "errors"),
    [
        ({}, {"message": ["The message field is required."]}),
        ({"message": " "}, {"message": ["The message field is required."]}),
        ({"message": "x" * 1601}, {"message": ["The message field must not be greater than 1600 characters."]}),
        ({"message": "x", "fields": []}, {"fields": ["The fields field must be an object."]}),
        ({"message": "x", "fields": {"a": []}}, {"fields.a": ["The fields.a field must be a string."]}),
        (
            {"message": "{a} {b} {c}", "fields": {"b": "x"}},
            {"message": ["The message field has placeholders that no field fills: {a}, {c}."]},
        ),
        (
            {"message": "{a}", "fields": {"a": ""}},
            {"message": ["The message field is required; nothing is left of it once it is filled."]},
        ),
        (
            {"message": "{a}{a}", "fields": {"a": "x" * 900}},
            {"message": ["The message field must not be greater than 1600 characters; once it is filled it has 1800."]},
        ),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_is_wrong_is_named(api, ali, body, errors):
    answer = api.post(PATH, json=body, headers=ali.headers)
    assert (answer.status_code, answer.json()["errors"]) == (422, errors)


def test_the_price_is_the_default_phones(client, phone, device_number, preview):
    number = device_number(phone)
    assert client.patch(f"/api/devices/{number}", json={"sms_rate": 12.5}).status_code == 200
    assert client.post("/api/devices/default-device", json={"device_id": number}).status_code == 200
    assert told(preview("x" * 500))["price"] == 12.5
    # Whether or not the phone may send now.
    assert client.patch(f"/api/devices/{number}", json={"is_active": False}).status_code == 200
    assert told(preview("x"))["price"] == 12.5
