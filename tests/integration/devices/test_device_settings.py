"""Settings of phones over the public API."""

from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from tests.support.waiting import until

WRONG = {
    "device_name": [None, "", "x" * 256, 7],
    "phone_number": ["abc", "12", 7, "+1" * 40],
    "is_active": [None, "yes", 2, []],
    "sms_rate": [None, -1, "x", 1_000_000_001, 0.00001],
    "send_delay_seconds": [None, -1, 86_401, "x", 1.5],
    "send_delay_spread_seconds": [None, -1, 86_401],
    "default_sim_slot": [None, -1, 3, "x"],
    "sim_selection": [None, "random", 1],
    "limits": ["x", 5, {"per_minute": 0}, {"per_day": "x"}, {"sims": {"5": {}}}, {"sims": {"0": 3}}],
}


@pytest.mark.parametrize(("field", "value"), [(field, value) for field, values in WRONG.items() for value in values])
def test_values_out_of_range_are_told_by_name(client, phone, field, value):
    before = client.get(f"/api/devices/{phone.device_id}").json()
    answer = client.patch(f"/api/devices/{phone.device_id}", json={field: value})
    assert answer.status_code == 422, answer.text
    assert all(name.split(".")[0] == field for name in answer.json()["errors"])
    after = client.get(f"/api/devices/{phone.device_id}").json()
    assert after["data"] | {"last_seen_at": None} == before["data"] | {"last_seen_at": None}


def test_a_slot_that_no_phone_has_is_told_by_name(client, phone):
    answer = client.patch(f"/api/devices/{phone.device_id}", json={"limits": {"sims": {"5": {}}}})
    assert answer.json()["errors"] == {"limits.sims.5": ["The selected limits.sims.5 is invalid."]}


def test_all_settings_at_once(client, phone):
    values = {
        "device_name": "Reception",
        "phone_number": "+998901234567",
        "is_active": False,
        "sms_rate": 12.5,
        "send_delay_seconds": 86_400,
        "send_delay_spread_seconds": 5,
        "default_sim_slot": 2,
        "sim_selection": "alternate",
        "limits": {"per_minute": 1, "per_month": 1000, "sims": {"1": {"recipients_per_month": 5}}},
    }
    answer = client.put(f"/api/devices/{phone.device_id}", json=values)
    assert answer.json()["message"] == "Device updated successfully"
    assert values.items() <= answer.json()["data"].items()
    phone.sync()
    pushed = phone.settings["messages"]
    assert (pushed["limit_period"], pushed["limit_value"]) == ("PerMinute", 1)
    cleared = client.patch(f"/api/devices/{phone.device_id}", json={"phone_number": None, "limits": None}).json()[
        "data"
    ]
    assert (cleared["phone_number"], cleared["limits"], cleared["device_name"]) == (None, {}, "Reception")
    phone.sync()
    assert phone.settings["messages"]["limit_period"] == "Disabled"


def test_a_change_and_a_pull_that_tells_a_new_version_lock_in_the_same_order(client, phone, sql, database):
    change = {"device_name": "Reception", "send_delay_seconds": 5}
    with psycopg.connect(database.postgres.url) as pull, ThreadPoolExecutor(1) as pool:
        pull.execute("SELECT FROM device_state FOR NO KEY UPDATE")
        changed = pool.submit(client.patch, f"/api/devices/{phone.device_id}", json=change)
        until(lambda: sql.execute("SELECT count(*) FROM pg_locks WHERE NOT granted").fetchone() == (1,))
        pull.execute("UPDATE devices SET app_version = '1.69.0'")
        pull.commit()
        answer = changed.result(10)
    assert answer.status_code == 200, answer.text
    row = sql.execute("SELECT device_name, send_delay_seconds, app_version FROM devices").fetchone()
    assert row == ("Reception", 5, "1.69.0")


def test_the_default_phone(client, phone, enroll, device_number):
    second = enroll(name="second")
    for reference in (device_number(second), str(device_number(second)), second.device_id):
        answer = client.post("/api/devices/default-device", json={"device_id": reference})
        assert answer.json() == {
            "success": True,
            "data": {"id": device_number(second), "device_name": "second", "is_default": True},
            "message": "Default device updated successfully",
        }
    assert [device["is_default"] for device in client.get("/api/devices").json()["data"]] == [False, True]
    for unknown in ("nonsense", 10**15):
        refused = client.post("/api/devices/default-device", json={"device_id": unknown})
        assert (refused.status_code, refused.json()["message"]) == (404, "No query results for model [Device].")
    for body, sentence in (
        ({}, "The device id field is required."),
        ({"device_id": None}, "The device id field is required."),
        ({"device_id": ""}, "The device id field is required."),
        ({"device_id": True}, "The selected device id is invalid."),
        ({"device_id": [1]}, "The selected device id is invalid."),
    ):
        refused = client.post("/api/devices/default-device", json=body)
        assert (refused.status_code, refused.json()["errors"]) == (422, {"device_id": [sentence]})
    client.delete(f"/api/devices/{second.device_id}")
    assert client.post("/api/devices/default-device", json={"device_id": second.device_id}).status_code == 404


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "/api/devices/{id}", None),
        ("PUT", "/api/devices/{id}", {"device_name": "stolen"}),
        ("PATCH", "/api/devices/{id}", {"send_delay_seconds": "not even valid"}),
        ("DELETE", "/api/devices/{id}", None),
        ("POST", "/api/devices/default-device", {"device_id": "{id}"}),
    ],
)
def test_nobody_else_reaches_a_phone(api, ali, other, phone, method, path, body):
    for reference in ("1", phone.device_id):
        values = {key: value.replace("{id}", reference) for key, value in body.items()} if body else None
        call = {"method": method, "url": path.replace("{id}", reference), "json": values}
        answer = api.request(**call, headers=other.headers)
        assert (answer.status_code, answer.json()["message"]) == (404, "No query results for model [Device].")
        assert api.request(**call).status_code == 401
        assert api.request(**call, headers=ali.token("sms:send")).status_code == 403
