"""Whatever defaults the role and the database were given, and whatever times a phone names."""

import pytest

from app.core.database import close_engines, get_engine


@pytest.fixture
def odd_defaults(owner):
    """Set where no other default comes before them: on the role in this database."""
    name = owner.info.dbname
    settings = {
        "TimeZone": "America/New_York",
        "DateStyle": "German",
        "IntervalStyle": "sql_standard",
        "bytea_output": "escape",
        "standard_conforming_strings": "off",
        "client_encoding": "LATIN1",
    }
    before = owner.execute(
        "SELECT setconfig FROM pg_db_role_setting s JOIN pg_database d ON d.oid = s.setdatabase WHERE datname = %s",
        [name],
    ).fetchone()[0]
    for setting, value in settings.items():
        owner.execute(f"ALTER ROLE CURRENT_USER IN DATABASE {name} SET {setting} = '{value}'")
    close_engines()
    yield
    owner.execute(f"ALTER ROLE CURRENT_USER IN DATABASE {name} RESET client_encoding")
    for setting, _, value in (line.partition("=") for line in before):
        if setting in settings:
            owner.execute(f"ALTER ROLE CURRENT_USER IN DATABASE {name} SET {setting} = '{value}'")
    close_engines()


def test_every_call_is_served(odd_defaults, traffic):
    traffic.run(8)
    assert traffic.failures == []


def test_odd_defaults_change_no_answer(odd_defaults, client, phone):
    sent = client.post("/api/sms", json={"recipient_number": "+998901112233", "message": "Дунё"}).json()["data"]
    shown = client.get(f"/api/sms/{sent['id']}").json()["data"]
    assert shown["message"] == "Дунё"
    assert shown["created_at"].endswith("Z")
    assert abs(int(shown["created_at"][:4]) - int(phone.now()[:4])) <= 1
    with get_engine().connect() as connection:
        assert connection.exec_driver_sql("SHOW TimeZone").scalar() == "UTC"


@pytest.mark.parametrize(
    "moment",
    [
        "0001-01-01T00:00:00.000Z",
        "0001-01-01T00:00:00.000+14:00",
        "9999-12-31T23:59:59.999-12:00",
        "10000-01-01T00:00:00.000Z",
        "-0044-03-15T00:00:00.000Z",
        "infinity",
        "",
        0,
        None,
    ],
)
def test_a_phone_whose_clock_is_far_off(odd_defaults, client, phone, moment):
    assert phone.receive("+998901112233", "Hello", receivedAt=moment) == 200
    (message,) = client.get("/api/sms/inbox").json()["data"]["data"]
    assert client.get(f"/api/sms/{message['id']}").json()["data"]["received_at"].endswith("Z")
    assert client.get("/api/sms").status_code == 200


@pytest.mark.parametrize(
    ("stored", "shown"),
    [
        ("0044-03-15 00:00 BC", "0001-01-01T00:00:00.000000Z"),
        ("-infinity", "0001-01-01T00:00:00.000000Z"),
        ("12026-01-01", "9999-01-01T00:00:00.000000Z"),
        ("infinity", "9999-01-01T00:00:00.000000Z"),
    ],
)
def test_a_stored_time_that_python_cannot_hold_breaks_no_page(client, phone, owner, stored, shown):
    phone.receive("+998901112233", "Hello")
    owner.execute("UPDATE messages SET received_at = %s", [stored])
    (message,) = client.get("/api/sms/inbox").json()["data"]["data"]
    assert client.get(f"/api/sms/{message['id']}").json()["data"]["received_at"] == shown
    assert client.get(f"/api/sms/{message['id']}/timeline").status_code == 200
