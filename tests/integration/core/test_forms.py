"""Bodies as forms, with Laravel's bracket names."""

import pytest


def test_urlencoded(api):
    fields = {"name": "Ali Valiyev", "email": "a@b.c", "password": "sécret", "password_confirmation": "sécret"}
    assert api.post("/api/register", data=fields).status_code == 201
    assert api.post("/api/login", json={"email": "a@b.c", "password": "sécret"}).status_code == 200


def test_multipart(api):
    fields = {"name": "Ali Валиев", "email": "a@b.c", "password": "secret", "password_confirmation": "secret"}
    answer = api.post("/api/register", files={name: (None, value) for name, value in fields.items()})
    assert (answer.status_code, answer.json()["data"]["user"]["name"]) == (201, "Ali Валиев")


def test_multipart_with_a_file_in_place_of_a_field(api):
    answer = api.post("/api/login", files={"email": ("a.txt", b"\x00\xff" * 10), "password": (None, "secret")})
    assert (answer.status_code, answer.json()["errors"]) == (422, {"email": ["The email field is required."]})


@pytest.mark.parametrize("content_type", ["multipart/form-data", "multipart/form-data; boundary=x"])
def test_broken_multipart(api, content_type, caplog):
    answer = api.post("/api/login", content=b"not a form", headers={"Content-Type": content_type})
    assert (answer.status_code, list(answer.json()["errors"])) == (422, ["body"])
    assert not [record for record in caplog.records if record.name.startswith("python_multipart")]


def test_lists_in_forms(api, ali):
    answer = api.post(
        "/api/tokens",
        content="name=Form&abilities[]=sms:send&abilities%5B%5D=sms:read",
        headers={**ali.headers, "Content-Type": "application/x-www-form-urlencoded; charset=UTF-8"},
    )
    assert (answer.status_code, answer.json()["data"]["abilities"]) == (201, ["sms:send", "sms:read"])


def test_booleans_and_numbers_in_forms(api, ali):
    answer = api.put(
        "/api/settings",
        data={"keep_inbound": "0", "device_events": "1", "offline_alert_minutes": "15"},
        headers=ali.headers,
    )
    told = {"keep_inbound": False, "device_events": True, "default_region": None, "offline_alert_minutes": 15}
    assert answer.json()["data"].items() >= told.items()


def test_text_that_cannot_be_stored_names_its_field(api):
    answer = api.post(
        "/api/login",
        content="email=%ff&password=%00",
        headers={"Content-Type": "application/x-www-form-urlencoded"},
    )
    assert (answer.status_code, list(answer.json()["errors"])) == (422, ["email", "password"])


def test_json_with_a_charset_and_without_a_type(api):
    body = b'{"email": "nobody@example.com", "password": "secret"}'
    for headers in (
        {"Content-Type": "application/json; charset=utf-8"},
        {"Content-Type": "application/vnd.x+json"},
        {},
    ):
        assert api.post("/api/login", content=body, headers=headers).status_code == 401
