"""The account page, settings, plans and promo codes."""

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from decimal import Decimal

import pytest

REFUSED = {"success": False, "message": "This promo code is invalid or no longer available."}


@pytest.fixture
def promo(database):
    from app.accounts import plans
    from app.core.database import transaction

    def make(code="SUMMER", months=1, **more):
        with transaction() as session:
            assert plans.create_promo(session, code, months, **more)

    return make


def redeem(api, account, code="summer"):
    return api.post("/api/subscriptions/redeem-promo", json={"code": code}, headers=account.headers)


def add_device(sql, user_id, name, *, active=True, rate="100", removed=False):
    return sql.execute(
        "INSERT INTO devices (user_id, device_id, device_name, registered_name, is_active, sms_rate, hook_secret,"
        " signing_key, removed_at) VALUES (%s, %s, 'Pixel', 'Pixel', %s, %s, %s, 'x', CASE WHEN %s THEN now() END)"
        " RETURNING id",
        (user_id, name, active, rate, name, removed),
    ).fetchone()[0]


def test_account_and_balance(api, ali, sql):
    from app.accounts import usage
    from app.accounts.usage import UsageKind
    from app.core.database import transaction

    today = sql.execute("SELECT (clock_timestamp() AT TIME ZONE 'UTC')::date").fetchone()[0]
    with transaction() as session:
        usage.count(
            session,
            [
                (ali.id, today.replace(year=2020), UsageKind.ACCEPTED, 4, Decimal(400)),
                (ali.id, today, UsageKind.ACCEPTED, 8, Decimal("4.5")),
                (ali.id, today, UsageKind.SENT, 5, 0),
                (ali.id, today, UsageKind.DELIVERED, 3, 0),
                (ali.id, today, UsageKind.FAILED, 1, 0),
                (ali.id, today, UsageKind.CANCELLED, 2, 0),
                (ali.id, today, UsageKind.RECEIVED, 6, 0),
                (ali.id, today, UsageKind.HIDDEN_RECEIVED, 6, 0),
            ],
        )
    for name, more in {"a": {}, "b": {"active": False}, "c": {"removed": True}}.items():
        add_device(sql, ali.id, name, **more)
    answer = api.get("/api/account", headers=ali.headers)
    assert answer.json() == {
        "success": True,
        "data": {
            "user": {"id": ali.id, "name": "Ali", "email": "ali@example.com"},
            "balance": 0,
            "sms_rate": 100,
            "usage": {
                "total_sms": 12,
                "total_spent": 404.5,
                "today_sms": 8,
                "today_spent": 4.5,
                "month_sms": 8,
                "month_spent": 4.5,
            },
            "stats": {
                "total_sent": 5,
                "total_delivered": 3,
                "total_failed": 1,
                "total_pending": 5,
                "total_received": 6,
                "devices": 2,
                "active_devices": 1,
            },
            "subscription": {
                "plan": "free",
                "is_premium": False,
                "premium_expires_at": None,
                "prices": {"monthly": 5, "yearly": 50, "currency": "USD"},
                "features": ["api", "webhooks", "bulk"],
            },
        },
    }
    assert '"balance":0,"sms_rate":100,' in answer.text
    assert api.get("/api/balance", headers=ali.headers).json() == answer.json()


def test_rate_is_the_default_devices(api, ali, other, sql, configured):
    configured(SMS_RATE="12.5")

    def rate():
        return api.get("/api/account", headers=ali.headers).json()["data"]["sms_rate"]

    assert rate() == 12.5
    device = add_device(sql, ali.id, "a", rate="7")
    assert rate() == 12.5
    sql.execute("UPDATE users SET default_device_id = %s", (device,))
    assert rate() == 7
    assert api.get("/api/account", headers=other.headers).json()["data"]["sms_rate"] == 12.5
    sql.execute("UPDATE devices SET removed_at = now()")
    assert rate() == 12.5


@pytest.mark.parametrize("method", ["PUT", "PATCH"])
def test_settings(api, ali, other, method):
    others = {"allowed_hours": None, "time_zone": None, "country_zones": None, "sticky_phone": False}
    others |= {"keep_messages_days": None, "keep_incoming_days": None}
    initial = {
        "keep_inbound": True,
        "device_events": False,
        "default_region": None,
        "offline_alert_minutes": None,
        "failover": True,
        "default_send_delay_seconds": 0,
        "approve_new_phones": False,
        "frequency_cap": None,
        "same_content_minutes": None,
        **others,
    }
    assert api.get("/api/settings", headers=ali.headers).json() == {"success": True, "data": initial}

    def put(**change):
        return api.request(method, "/api/settings", json=change, headers=ali.headers)

    answer = put(
        keep_inbound=False,
        default_region="uz",
        offline_alert_minutes=30,
        device_events="1",
        failover=False,
        default_send_delay_seconds=60,
    )
    changed = {
        "keep_inbound": False,
        "device_events": True,
        "default_region": "UZ",
        "offline_alert_minutes": 30,
        "failover": False,
        "default_send_delay_seconds": 60,
        "approve_new_phones": False,
        "frequency_cap": None,
        "same_content_minutes": None,
        **others,
    }
    assert answer.json() == {"success": True, "data": changed, "message": "Settings updated successfully"}
    assert put().json()["data"] == changed
    assert put(default_region=None, offline_alert_minutes="").json()["data"] == {
        **changed,
        "default_region": None,
        "offline_alert_minutes": None,
    }
    assert api.get("/api/settings", headers=other.headers).json()["data"] == initial


@pytest.mark.parametrize(
    ("change", "errors"),
    [
        ({"keep_inbound": "yes"}, {"keep_inbound": ["The keep inbound field must be true or false."]}),
        ({"keep_inbound": None}, {"keep_inbound": ["The keep inbound field is required."]}),
        ({"default_region": "XX"}, {"default_region": ["The selected default region is invalid."]}),
        ({"default_region": 5}, {"default_region": ["The default region field must be a string."]}),
        (
            {"offline_alert_minutes": 0},
            {"offline_alert_minutes": ["The offline alert minutes field must be at least 1."]},
        ),
        (
            {"default_send_delay_seconds": 86_401},
            {"default_send_delay_seconds": ["The default send delay seconds field must not be greater than 86400."]},
        ),
        (
            {"offline_alert_minutes": "soon"},
            {"offline_alert_minutes": ["The offline alert minutes field must be an integer."]},
        ),
    ],
)
def test_refused_settings_change_nothing(api, ali, change, errors):
    answer = api.put("/api/settings", json={"device_events": True} | change, headers=ali.headers)
    assert (answer.status_code, answer.json()["errors"]) == (422, errors)
    assert api.get("/api/settings", headers=ali.headers).json()["data"]["device_events"] is False


def test_subscription_with_payment(api, ali, configured):
    configured(PAYMENT_WALLET="T123", PAYMENT_TELEGRAM="@admin", PRICE_MONTHLY="4.99", FREE_FEATURES="bulk,api")
    assert api.get("/api/subscription", headers=ali.headers).json()["data"] == {
        "plan": "free",
        "is_premium": False,
        "premium_expires_at": None,
        "prices": {"monthly": 4.99, "yearly": 50, "currency": "USD"},
        "features": ["api", "bulk"],
        "payment": {"wallet_address": "T123", "asset": "", "network": "", "admin_telegram": "@admin"},
    }


def test_redeem(api, ali, promo, configured):
    configured(FREE_FEATURES="")
    promo(months=2)
    answer = redeem(api, ali, " SumMer ")
    assert (answer.status_code, answer.json()["message"]) == (200, "Promo code redeemed — Premium activated.")
    data = answer.json()["data"]
    assert (data["plan"], data["is_premium"], data["features"]) == ("premium", True, ["api", "webhooks", "bulk"])
    assert data == api.get("/api/subscription", headers=ali.headers).json()["data"]
    days = (datetime.fromisoformat(data["premium_expires_at"]) - datetime.now(UTC)).days
    assert 57 <= days <= 62


@pytest.mark.parametrize(
    ("end", "months", "new_end"),
    [
        ("2198-01-31 10:00+00", 1, "2198-02-28T10:00:00.000000Z"),
        ("2196-01-31 10:00+00", 1, "2196-02-29T10:00:00.000000Z"),
        ("2198-03-31 01:00+00", 6, "2198-09-30T01:00:00.000000Z"),
        ("2198-12-31 23:59:59+00", 12, "2199-12-31T23:59:59.000000Z"),
    ],
)
def test_calendar_months_are_added_to_what_is_left(api, ali, promo, sql, end, months, new_end):
    promo(months=months)
    sql.execute("UPDATE users SET premium_expires_at = %s", (end,))
    assert redeem(api, ali).json()["data"]["premium_expires_at"] == new_end


def test_ended_premium_begins_now(api, ali, promo, sql):
    promo()
    sql.execute("UPDATE users SET premium_expires_at = '2001-01-01'")
    end = datetime.fromisoformat(redeem(api, ali).json()["data"]["premium_expires_at"])
    assert 27 <= (end - datetime.now(UTC)).days <= 31


def test_codes_that_cannot_be_used(api, ali, other, promo):
    promo("USED", uses=1)
    promo("OVER", until=datetime(2020, 1, 1, tzinfo=UTC))
    assert redeem(api, other, "used").status_code == 200
    for code in ("used", "over", "unknown", "x" * 5000, "' OR 1=1"):
        answer = redeem(api, ali, code)
        assert (answer.status_code, answer.json()) == (422, REFUSED)
    assert redeem(api, ali, "").json()["errors"] == {"code": ["The code field is required."]}
    assert redeem(api, ali, 5).json()["errors"] == {"code": ["The code field must be a string."]}


def test_once_per_user_and_a_refusal_uses_nothing_up(api, ali, other, promo, sql):
    promo(uses=2)
    assert [redeem(api, ali).status_code for _ in range(3)] == [200, 422, 422]
    assert sql.execute("SELECT used FROM promo_codes").fetchone() == (1,)
    assert redeem(api, other).status_code == 200


def test_last_use_is_redeemed_by_one_of_many_at_once(api, new_account, promo, sql):
    promo(uses=3)
    accounts = [new_account(f"u{n}@example.com") for n in range(10)]
    together = threading.Barrier(10)

    def race(account):
        together.wait()
        return redeem(api, account).status_code

    with ThreadPoolExecutor(10) as pool:
        codes = list(pool.map(race, accounts))
    assert (codes.count(200), codes.count(422)) == (3, 7)
    assert sql.execute("SELECT count(*) FROM users WHERE premium_expires_at IS NOT NULL").fetchone() == (3,)
    assert sql.execute("SELECT used FROM promo_codes").fetchone() == (3,)


def test_one_user_redeems_once_however_many_requests_at_once(api, ali, promo, sql):
    promo(months=1)
    together = threading.Barrier(8)

    def race(_):
        together.wait()
        return redeem(api, ali).status_code

    with ThreadPoolExecutor(8) as pool:
        codes = list(pool.map(race, range(8)))
    assert (codes.count(200), codes.count(422)) == (1, 7)
    assert sql.execute("SELECT used FROM promo_codes").fetchone() == (1,)


def test_two_codes_at_once_both_count(api, ali, promo, sql):
    promo("A", months=1)
    promo("B", months=2)
    sql.execute("UPDATE users SET premium_expires_at = '2198-01-10 00:00+00'")
    with ThreadPoolExecutor(2) as pool:
        assert [r.status_code for r in pool.map(lambda code: redeem(api, ali, code), "AB")] == [200, 200]
    assert sql.execute("SELECT premium_expires_at FROM users").fetchone()[0] == datetime(2198, 4, 10, tzinfo=UTC)


def test_an_alert_that_could_reach_nobody_is_refused(api, ali, configured):
    def put(**change):
        return api.put("/api/settings", json=change, headers=ali.headers)

    answer = put(offline_alert_minutes=30)
    assert (answer.status_code, list(answer.json()["errors"])) == (422, ["offline_alert_minutes"])
    assert "No mail server" in answer.json()["message"]
    assert put().json()["data"]["offline_alert_minutes"] is None
    assert put(offline_alert_minutes=30, device_events=True).status_code == 200, "a webhook gets the alert"
    assert put(offline_alert_minutes=None, device_events=False).status_code == 200
    configured(SMTP_URL="smtp://127.0.0.1:9")
    assert put(offline_alert_minutes=30).status_code == 200
