"""Tables that the planner holds to be empty, as they were when they were last analyzed, and that have filled since.

To it each way then costs the same, comparing each row with each too, for which a statement's 15 seconds do not suffice.
"""

import pytest

ROWS = 20_000
# What fills a table with rows that a task takes out.
FILLED = {
    "usage_deltas": "(user_id, day, kind, n) SELECT n % 50, now(), 'sent', 1",
    "device_deltas": "(device_id, sim_slot, day, kind, detail, n) SELECT n % 50, 0, now(), 'sent', '', 1",
    "device_releases": "(device_id, sim_slot, segments, recipient, released_at) SELECT 1, 0, 1, n, '2020-01-01'",
    "inbound_seen": "(device_id, event_id, fingerprint, received_at, created_at) SELECT 1, n, '', now(), '2020-01-01'",
    "idempotency_keys": "(user_id, route, key, request_hash, created_at) SELECT 1, 'sms', n, '', '2020-01-01'",
    "audit_events": "(action, by, created_at) SELECT 'x', 'owner', '2020-01-01'",
    "webhook_targets": "(user_id, origin, last_served_at) SELECT n, 'http://x', '2020-01-01'",
}


@pytest.mark.parametrize("table", FILLED)
def test_what_has_filled_since_is_taken_out(sql, table):
    from workers import upkeep

    fill = f"INSERT INTO {table} {FILLED[table]} FROM generate_series(1, {ROWS}) n"
    sql.execute(fill)
    sql.execute(f"DELETE FROM {table}")
    sql.execute(f"ANALYZE {table}")
    sql.execute(fill)
    task = upkeep.fold if table.endswith("_deltas") else upkeep.clean
    for _ in range(ROWS // 2000):
        task()
    assert sql.execute(f"SELECT count(*) FROM {table}").fetchone() == (0,)
