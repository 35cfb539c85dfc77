"""Names that no field has: refused where they can only be mistakes, else ignored and named in a header."""

import pytest

from app.messages.schemas import _LATER

TO = {"message": "Hi", "recipient_number": "+998901234567"}


@pytest.fixture
def device(api, ali):
    private = api.post("/api/devices/enrollment", headers=ali.headers).json()["data"]["private_token"]
    headers = {"Authorization": f"Bearer {private}"}
    return api.post("/api/mobile/v1/device", json={"name": "x"}, headers=headers).json()["id"]


@pytest.mark.parametrize(
    ("limits", "field"),
    [
        ({"perday": 10}, "limits.perday"),
        ({"per_day": 10, "per_week": None}, "limits.per_week"),
        ({"sims": {"0": {"perDay": 10}}}, "limits.sims.0.perDay"),
        ({"sims": {"3": {"per_day": 10}}}, "limits.sims.3"),
    ],
)
def test_unknown_limits_change_nothing(api, ali, device, limits, field):
    path = f"/api/devices/{device}"
    assert api.put(path, json={"limits": {"per_day": 5}}, headers=ali.headers).status_code == 200
    answer = api.put(path, json={"limits": limits}, headers=ali.headers)
    assert (answer.status_code, list(answer.json()["errors"])) == (422, [field])
    assert api.get(path, headers=ali.headers).json()["data"]["limits"] == {"per_day": 5}


@pytest.mark.parametrize(
    "path", ["/api/sms", "/api/sms/outbox", "/api/contacts", "/api/contacts/export", "/api/contact-groups",
             "/api/webhooks/deliveries"],
)  # fmt: skip
def test_unknown_filters(api, ali, path):
    answer = api.get(f"{path}?state_of=failed", headers=ali.headers)
    assert (answer.status_code, answer.json()["errors"]) == (422, {"state_of": ["There is no state of field here."]})
    assert api.get(f"{path}?page=1&per_page=10&_=1700000000", headers=ali.headers).status_code == 200
    assert api.get(f"{path}?state_of=failed").status_code == 401


@pytest.mark.parametrize("name", ["schedule_at", "scheduled_at", "scheduleAt", "sendAt", "delay", "Send-At"])
@pytest.mark.parametrize("path", ["/api/sms", "/api/sms/bulk"])
def test_later_is_not_now(api, ali, device, sql, path, name):
    body = {"message": "Hi", "recipients": ["+998901234567"]} if path.endswith("bulk") else TO
    answer = api.post(path, json=body | {name: "2030-01-01T00:00:00Z"}, headers=ali.headers)
    spoken = name.replace("_", " ")
    sentence = f"There is no {spoken} field here: use send_at to send later."
    assert (answer.status_code, answer.json()["errors"]) == (422, {name: [sentence]})
    assert sql.execute("SELECT count(*) FROM messages").fetchone() == (0,)
    # What libraries fill in for "now".
    assert api.post(path, json=body | {name: None}, headers=ali.headers).status_code == 201


def test_names_of_later_are_in_the_form_they_are_compared_in():
    assert all(name.islower() and name.isalpha() for name in _LATER)


def test_ignored_fields_are_named(api, ali, device):
    answer = api.post("/api/sms", json=TO | {"colour": "red", "my_ID": 5}, headers=ali.headers)
    assert (answer.status_code, answer.headers["X-Ignored-Fields"]) == (201, "colour, my_ID")
    assert "X-Ignored-Fields" in answer.headers["Access-Control-Expose-Headers"]
    bulk = {"message": "Hi", "recipients": ["+998901234567"], "colour": "red"}
    assert api.post("/api/sms/bulk", json=bulk, headers=ali.headers).headers["X-Ignored-Fields"] == "colour"
    answer = api.put("/api/settings", data={"keep_inbound": "1", "colour": "red", "_token": "x"}, headers=ali.headers)
    assert (answer.status_code, answer.headers["X-Ignored-Fields"]) == (200, "colour")
    answer = api.put("/api/settings", json={"keep_inbound": "perhaps", "colour": "red"}, headers=ali.headers)
    assert (answer.status_code, answer.headers["X-Ignored-Fields"]) == (422, "colour")
    for body in (TO, {"message": "Hi", "phone": "+998901234567"}):
        assert "X-Ignored-Fields" not in api.post("/api/sms", json=body, headers=ali.headers).headers


def test_ignored_names_cannot_write_headers(api, ali, device):
    names = ["a\r\nSet-Cookie: x=1", "ключ", "a,b", "\u0001", "x" * 1000]
    answer = api.post("/api/sms", json=TO | dict.fromkeys(names, 1), headers=ali.headers)
    assert answer.status_code == 201
    assert "Set-Cookie" not in answer.headers
    found = answer.headers["X-Ignored-Fields"].split(", ")
    assert found[:1] + found[2:] == ["a%0D%0ASet-Cookie%3A%20x%3D1", "a%2Cb", "%01", "x" * 64]
    answer = api.post("/api/sms", json=TO | {f"f{n}": 1 for n in range(500)}, headers=ali.headers)
    assert answer.headers["X-Ignored-Fields"].split(", ")[-2:] == ["f19", "..."]


def test_json_sent_as_a_form_says_so(api, ali):
    """What `curl -d '{…}'` sends."""
    headers = {**ali.headers, "Content-Type": "application/x-www-form-urlencoded"}
    for path in ("/api/sms", "/api/contacts", "/api/sms/bulk"):
        answer = api.post(path, content=b'{"message": "Hi", "recipient_number": "+998901234567"}', headers=headers)
        assert answer.status_code == 422
        assert "Send the header Content-Type: application/json." in answer.json()["errors"]["body"][0]
