"""Tables that the planner holds to be empty, as they were when they were last analyzed, and that have filled since.

To it each way then costs the same, comparing each row with each too, for which a statement's 15 seconds do not suffice.
"""

import importlib
import pkgutil

import psycopg
import pytest
from sqlalchemy import TextClause
from sqlalchemy.dialects import postgresql

import app
from app.migrations.config import migrate

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


QUEUES = {
    "message_queue": (
        "(message_id, user_id, device_id, stage, lane, campaign_id) SELECT n, n % 5, n % 20, n % 3, 1, n % 3"
    ),
    "webhook_queue": (
        "(delivery_id, user_id, message_id, hook, lane, origin, url, next_attempt_at)"
        " SELECT n, n % 5, n, 'status', 1, 'http://' || n % 7, 'http://' || n % 7, now()"
    ),
}
# Statements that may read all of a queue: once each, and none of them for a message or a call.
READERS = {
    "app.clock._DELIVERIES": "a clock that was set back",
    "app.campaigns.life._GIVEN": "a batch of a cancelled campaign",
    "app.campaigns.life._NOT_GIVEN": "a batch of a cancelled campaign",
    "app.messages.dispatch.releasing._REEVALUATE_CAMPAIGN": "a campaign whose hours are changed",
    "app.messages.dispatch.handout._NEVER_REPEAT": "a phone that enrolls again",
    "app.messages.measuring._WEBHOOKS": "metrics: the first of all",
    "app.messages.queries._HELD": "a list of what is scheduled",
    "app.messages.queries._COUNT_HELD": "a list of what is scheduled",
    "app.web.operators._STANDING": "a page for operators, which counts them",
    "app.webhooks.claims._CANDIDATES": "the first of all",
    "app.webhooks.retention._ACCEPTED_AT_ONCE": "a batch of what is past its age",
    "app.webhooks.urls._HASTEN": "a URL that is changed",
}


def statements():
    """Every statement of the application that speaks of a queue."""
    found = {}
    for module in pkgutil.walk_packages(app.__path__, "app."):
        if ".migrations" not in module.name:
            for name, value in vars(importlib.import_module(module.name)).items():
                if isinstance(value, TextClause) and any(queue in value.text for queue in QUEUES):
                    found.setdefault(value.text, (f"{module.name}.{name}", value))
    return dict(found.values())


@pytest.fixture
def queues(servers, configured):
    """A database in which nothing is known of other tables, and both queues are full and, to the planner, empty."""
    with psycopg.connect(servers.postgres.url_of("postgres"), autocommit=True) as owner:
        owner.execute("DROP DATABASE IF EXISTS queues")
        owner.execute("CREATE DATABASE queues")
        configured(DATABASE_URL=servers.postgres.url_of("queues"))
        migrate()
        with psycopg.connect(servers.postgres.url_of("queues"), autocommit=True) as sql:
            for queue, rows in QUEUES.items():
                fill = f"INSERT INTO {queue} {rows} FROM generate_series(1, {ROWS}) n"
                sql.execute(f"ALTER TABLE {queue} SET (autovacuum_enabled = off)")
                sql.execute(fill)
                sql.execute(f"DELETE FROM {queue}")
                sql.execute(f"VACUUM (ANALYZE, TRUNCATE off) {queue}")
                sizes = f"SELECT reltuples, relpages > 0 FROM pg_class WHERE relname = '{queue}'"
                assert sql.execute(sizes).fetchone() == (0, True)
                sql.execute(fill)
            yield sql
        owner.execute("DROP DATABASE queues WITH (FORCE)")


def test_statements_are_led_to_their_rows_of_a_queue(queues):
    """None reads all there is for a message or a call; they are planned once, as hot ones are."""
    queues.execute("SET plan_cache_mode = force_generic_plan")
    known = statements()
    assert READERS.keys() <= known.keys()
    unled = {name: scans for name, statement in known.items() if (scans := unled_scans(queues, statement))}
    assert sorted(unled.keys() - READERS.keys()) == [], unled


def unled_scans(sql, statement):
    """Where the statement's plan reads a queue from its beginning to its end."""
    compiled = statement.compile(dialect=postgresql.dialect(paramstyle="numeric_dollar"))
    nothing = ", ".join("NULL" for _ in compiled.positiontup or ())
    sql.execute(f"PREPARE tried AS {compiled}")
    try:
        rows = sql.execute(f"EXPLAIN (FORMAT JSON) EXECUTE tried{f'({nothing})' if nothing else ''}").fetchone()
    finally:
        sql.execute("DEALLOCATE tried")
    return [
        node
        for node in nodes(rows[0][0]["Plan"])
        if node.get("Relation Name") in QUEUES and "Scan" in node["Node Type"]
        if not node.keys() & {"Index Cond", "Recheck Cond"}
    ]


def nodes(plan):
    yield plan
    for child in plan.get("Plans", ()):
        yield from nodes(child)
