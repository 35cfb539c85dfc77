"""Every upkeep task beside an account of 5,000 silent phones and 20,000 rows: another account's one row has its turn.

A statement whose cost grows with the square of them is ended after 15 seconds, and that row has none.
"""

import pytest

from tests.support.messages_of import add_message, add_phone
from tests.support.waiting import until

PHONES = 5000
ROWS = 20_000


def silent_phones(sql, account):
    """Phones that were online for long and went away ten minutes ago."""
    sql.execute(
        "WITH made AS (INSERT INTO devices (user_id, device_id, device_name, registered_name, sms_rate, hook_secret,"
        " signing_key) SELECT %s, 'huge' || n, 'phone', 'phone', 100, 'huge' || n, 'key' FROM generate_series(1, %s) n"
        " RETURNING id) INSERT INTO device_state (device_id, seen_at, pulled_at, stream_opened_at, stream_seen_at)"
        " SELECT id, t, t, t, t FROM made, (SELECT clock_timestamp() - interval '10 minutes' AS t) AS times",
        (account.id, PHONES),
    )
    return sql.execute("SELECT min(id) FROM devices WHERE user_id = %s", (account.id,)).fetchone()[0]


def messages(sql, account, first_device, *, valid_until=None):
    """Messages that wait, shared out over the account's phones; of no phone where the first is 0."""
    sql.execute(
        "WITH made AS (INSERT INTO messages (message_id, user_id, device_id, direction, status, recipient_number,"
        " message) SELECT gen_random_uuid(), %(user)s, CASE WHEN %(first)s > 0 THEN %(first)s + n %% %(phones)s END,"
        " 'outbound', 'pending', '+15550100001', 'x' FROM generate_series(1, %(rows)s) n RETURNING id, device_id)"
        " INSERT INTO message_queue (message_id, user_id, device_id, lane, since, valid_until)"
        " SELECT id, %(user)s, COALESCE(device_id, 0), 1, clock_timestamp() - interval '11 minutes',"
        " clock_timestamp() - CAST(%(valid)s AS interval) + id * interval '1 ms' FROM made",
        {"user": account.id, "first": first_device, "phones": PHONES, "rows": ROWS, "valid": valid_until},
    )


def one_message(sql, account, device=0, valid_until=None):
    number = add_message(sql, account, status="pending", device_id=device or None)
    sql.execute(
        "INSERT INTO message_queue (message_id, user_id, device_id, lane, since, valid_until) VALUES (%s, %s, %s, 0,"
        " clock_timestamp() - interval '1 minute', clock_timestamp() - CAST(%s AS interval))",
        (number, account.id, device, valid_until),
    )
    return number


@pytest.fixture
def huge(sql, ali):
    """The first number of the huge account's phones; the last is there, so that what the others have may move."""
    first = silent_phones(sql, ali)
    sql.execute(
        "UPDATE device_state SET seen_at = clock_timestamp(), stream_seen_at = NULL WHERE device_id = %s",
        (first + PHONES - 1,),
    )
    return first


@pytest.fixture
def queue(database):
    """The tasks that were nudged or reminded, with what they carry."""
    import json
    from base64 import b64decode

    import redis

    from app.core.outbound import publisher

    def look():
        publisher()
        with redis.Redis.from_url(database.valkey.url) as broker:
            found = set()
            for name in ("dispatch", "webhooks", "upkeep"):
                for raw in broker.lrange(f"smsfleet:{name}", 0, -1):
                    message = json.loads(raw)
                    found.add((message["headers"]["task"], *json.loads(b64decode(message["body"]))[0]))
            return found

    return look


@pytest.mark.parametrize("one_is_there", [True, False])
def test_move(sql, ali, other, huge, one_is_there):
    from workers import upkeep

    if not one_is_there:
        sql.execute("UPDATE device_state SET seen_at = stream_opened_at, pulled_at = stream_opened_at")
    messages(sql, ali, huge)
    mine = one_message(sql, other, add_phone(sql, other, active=False))
    upkeep.move()
    upkeep.move(ali.id)  # what the first nudged, where it had its second before the other account
    assert sql.execute("SELECT device_id FROM message_queue WHERE message_id = %s", (mine,)).fetchone() == (0,)
    (moved,) = sql.execute(
        "SELECT count(*) FROM message_queue WHERE user_id = %s AND device_id = 0", (ali.id,)
    ).fetchone()
    assert moved >= 500 if one_is_there else moved == 0


def test_an_account_whose_move_fails_costs_no_other_its_own(sql, ali, other, monkeypatch):
    from app.messages.life import moving
    from workers import upkeep

    mine = one_message(sql, other, add_phone(sql, other, active=False))
    one_message(sql, ali, add_phone(sql, ali, active=False))
    real = moving.move

    def fail_for_ali(session, account, **how):
        if account == ali.id:
            session.execute(moving.text("SELECT 1 / 0"))
        return real(session, account, **how)

    monkeypatch.setattr(moving, "move", fail_for_ali)
    upkeep.move()
    assert sql.execute("SELECT device_id FROM message_queue WHERE message_id = %s", (mine,)).fetchone() == (0,)


def test_lost_streams_of_all_at_once(sql, ali, huge, other):
    """As `test_move` while the phones are only just gone, and each is looked at for what it has missed."""
    from workers import upkeep

    messages(sql, ali, huge)
    sql.execute(
        "UPDATE device_state SET stream_seen_at = clock_timestamp() - interval '20 s', pulled_at = NULL,"
        " seen_at = NULL WHERE device_id < %s",
        (huge + PHONES - 1,),
    )
    mine = one_message(sql, other, add_phone(sql, other, active=False))
    upkeep.move()
    upkeep.move(ali.id)
    assert sql.execute("SELECT device_id FROM message_queue WHERE message_id = %s", (mine,)).fetchone() == (0,)
    assert sql.execute("SELECT count(*) >= %s FROM device_state WHERE woken_at IS NOT NULL", (PHONES - 1,)).fetchone()[
        0
    ]


def test_sweep(sql, ali, other, huge, queue):
    from workers import upkeep

    messages(sql, ali, 0)
    one_message(sql, other)
    upkeep.sweep()
    until(lambda: {("dispatch.route", ali.id), ("dispatch.route", other.id)} <= queue())


def test_expire(sql, ali, other, huge):
    """In order of their ends, in batches that are each quick: here its turn comes after 2,000 others."""
    from workers import upkeep

    messages(sql, ali, huge, valid_until="1 hour")
    mine = one_message(sql, other, valid_until="1 hour")
    sql.execute(
        "UPDATE message_queue SET valid_until = (SELECT valid_until FROM message_queue ORDER BY valid_until"
        " OFFSET 2000 LIMIT 1) WHERE message_id = %s",
        (mine,),
    )
    for _ in range(5):
        upkeep.expire()
    assert sql.execute("SELECT status FROM messages WHERE id = %s", (mine,)).fetchone() == ("failed",)


def test_fold(sql, ali, other, huge):
    from workers import upkeep

    for user, rows in ((ali.id, ROWS), (other.id, 1)):
        sql.execute(
            "INSERT INTO usage_deltas (user_id, day, kind, n, amount)"
            " SELECT %s, current_date - n %% 3000, 'sent', 1, 0 FROM generate_series(1, %s) n",
            (user, rows),
        )
    sql.execute(
        "INSERT INTO device_deltas (device_id, sim_slot, day, kind, detail, n)"
        " SELECT %s + n %% %s, 0, current_date, 'sent', '', 1 FROM generate_series(1, %s) n",
        (huge, PHONES, ROWS),
    )
    for _ in range(ROWS // upkeep.MAX_FOLDED + 1):
        upkeep.fold()
    assert sql.execute("SELECT n FROM usage_totals WHERE user_id = %s", (other.id,)).fetchone() == (1,)
    assert sql.execute("SELECT count(*) FROM device_deltas").fetchone() == (0,)


def test_analyze_and_vacuum(sql, ali, huge):
    from workers import upkeep

    messages(sql, ali, huge)
    sql.execute("DELETE FROM message_queue")
    upkeep.analyze()
    upkeep.vacuum()


def test_clean(sql, ali, other, huge):
    from app.messages.life.cleaning import BATCH_SIZE
    from workers import upkeep

    messages(sql, ali, huge)
    # Half of the huge account's is still waiting for a report, and is looked at each time.
    sql.execute("UPDATE messages SET deleted_at = clock_timestamp() - interval '9 days'")
    sql.execute("UPDATE messages SET status = 'failed', failed_at = now() WHERE id % 2 = 0")
    for table, columns, values in (
        ("inbound_seen", "device_id, event_id, fingerprint, received_at", "n, 'e', '', now()"),
        ("device_releases", "device_id, sim_slot, segments, recipient, released_at", "n, 0, 1, 1, now()"),
    ):
        sql.execute(f"INSERT INTO {table} ({columns}) SELECT {values} FROM generate_series(1, {ROWS}) n")
    sql.execute("UPDATE inbound_seen SET created_at = now() - interval '9 days'")
    sql.execute("UPDATE device_releases SET released_at = now() - interval '32 days'")
    mine = add_message(sql, other, status="failed")
    sql.execute("UPDATE messages SET deleted_at = clock_timestamp() - interval '8 days' WHERE id = %s", (mine,))
    for _ in range(ROWS // BATCH_SIZE + 1):
        upkeep.clean()
    assert sql.execute("SELECT count(*) FROM messages WHERE id = %s", (mine,)).fetchone() == (0,)
    for table in ("inbound_seen", "device_releases"):
        assert sql.execute(f"SELECT count(*) FROM {table}").fetchone() == (0,)


def test_retain(sql, ali, other, configured):
    from workers import upkeep

    configured(KEEP_MESSAGES="P30D")
    for account, rows in ((ali, ROWS), (other, 1)):
        sql.execute(
            "INSERT INTO messages (message_id, user_id, direction, status, failed_at, created_at, updated_at)"
            " SELECT gen_random_uuid(), %s, 'outbound', 'failed', t, t, t FROM generate_series(1, %s),"
            " (SELECT clock_timestamp() - interval '31 days' AS t) AS times",
            (account.id, rows),
        )
    upkeep.retain()
    upkeep.retain(ali.id)
    assert sql.execute("SELECT count(*) FROM messages WHERE user_id = %s", (other.id,)).fetchone() == (0,)


def test_alert(sql, ali, other, huge, configured):
    """No mail server is there, which takes no time either."""
    from workers import upkeep

    configured(SMTP_URL="smtp://127.0.0.1:1")
    sql.execute("UPDATE users SET offline_alert_minutes = 5")
    mine = add_phone(sql, other)
    sql.execute("UPDATE device_state SET seen_at = clock_timestamp() - interval '1 hour' WHERE device_id = %s", (mine,))
    upkeep.alert()
    upkeep.alert(ali.id)  # what the first nudged
    assert sql.execute(
        "SELECT offline_alert_at IS NOT NULL FROM device_state WHERE device_id = %s", (mine,)
    ).fetchone() == (True,)
    (told,) = sql.execute(
        "SELECT count(*) FROM device_state s JOIN devices d ON d.id = s.device_id"
        " WHERE d.user_id = %s AND s.offline_alert_at IS NOT NULL",
        (ali.id,),
    ).fetchone()
    assert told >= 10


def test_quiet(sql, ali, other, huge):
    from workers import upkeep

    messages(sql, ali, huge)
    sql.execute(
        "UPDATE message_queue SET stage = 2, released_at = clock_timestamp() - interval '6 minutes',"
        " accepted_at = clock_timestamp()"
    )
    sql.execute("UPDATE device_state SET stream_seen_at = NULL, seen_at = clock_timestamp()")
    mine = add_phone(sql, other)
    sql.execute("UPDATE device_state SET quiet_since = clock_timestamp() WHERE device_id = %s", (mine,))
    upkeep.see_quiet()
    upkeep.see_quiet(ali.id)
    assert sql.execute("SELECT quiet_since FROM device_state WHERE device_id = %s", (mine,)).fetchone() == (None,)


def dead_receivers(sql, account, *, due):
    """Deliveries to as many receivers, none of which answers."""
    sql.execute(
        "WITH made AS (INSERT INTO webhook_deliveries (webhook_id, user_id, hook, event, url, body)"
        " SELECT gen_random_uuid(), %(user)s, 'callback', 'status', 'http://h' || n || '.example/', '{}'"
        " FROM generate_series(1, %(rows)s) n RETURNING id, url)"
        " INSERT INTO webhook_queue (delivery_id, user_id, hook, origin, url, next_attempt_at)"
        " SELECT id, %(user)s, 'callback', url, url, clock_timestamp() - interval '1 minute' FROM made",
        {"user": account.id, "rows": ROWS},
    )
    sql.execute(
        "INSERT INTO webhook_targets (user_id, origin, next_try_at, fail_count, last_served_at)"
        " SELECT user_id, origin, clock_timestamp() + CAST(%s AS interval), 5, clock_timestamp() - interval '60 days'"
        " FROM webhook_queue",
        (due,),
    )


def test_sweep_of_webhooks(sql, ali, other, queue):
    from workers import upkeep

    dead_receivers(sql, ali, due="1 hour")
    sql.execute(
        "WITH made AS (INSERT INTO webhook_deliveries (webhook_id, user_id, hook, event, url, body)"
        " VALUES (gen_random_uuid(), %(user)s, 'callback', 'status', 'http://z.example/', '{}') RETURNING id, url)"
        " INSERT INTO webhook_queue (delivery_id, user_id, hook, origin, url, next_attempt_at)"
        " SELECT id, %(user)s, 'callback', url, url, clock_timestamp() - interval '1 minute' FROM made",
        {"user": other.id},
    )
    upkeep.sweep()
    until(lambda: ("webhooks.deliver",) in queue())


def test_clean_of_webhooks(sql, ali, other, configured):
    from app.webhooks.retention import BATCH
    from workers import upkeep

    configured(SMTP_URL="smtp://127.0.0.1:1")
    dead_receivers(sql, ali, due="1 hour")
    sql.execute(
        "INSERT INTO webhook_deliveries (webhook_id, user_id, hook, event, url, body)"
        " VALUES (gen_random_uuid(), %s, 'callback', 'status', 'http://z.example/', '{}')",
        (other.id,),
    )
    sql.execute(
        "UPDATE webhook_deliveries SET state = 'failed', finished_at = clock_timestamp() - interval '40 days'"
        " + id * interval '1 second'"
    )
    sql.execute(
        "INSERT INTO webhook_attempts (delivery_id, url, duration_ms) SELECT id, url, 1 FROM webhook_deliveries"
    )
    sql.execute(
        "INSERT INTO webhook_urls (user_id, hook, url, origin, disabled_at, disabled_reason)"
        " SELECT id, 'status', 'http://z.example/', 'http://z.example:80', clock_timestamp(), 'gone' FROM users"
    )
    for _ in range(ROWS // BATCH + 1):
        upkeep.clean()
    for table in ("webhook_deliveries", "webhook_attempts", "webhook_targets"):
        assert sql.execute(f"SELECT count(*) FROM {table}").fetchone() == (0,), table
    assert sql.execute("SELECT count(*) FROM webhook_urls WHERE telling_until IS NULL").fetchone() == (0,)
