"""Lists walk their indexes: no list may sort or scan a user's whole history."""

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import event

from app.accounts.principals import Principal
from app.core.database import transaction
from app.core.pages import Paging
from app.messages import queries
from app.messages.queries import MessageFilter
from app.messages.states import Status

ROWS = 200_000


@pytest.fixture
def history(sql, ali):
    """A long history, mostly delivered, of two phones; the texts of the last days are others than those before."""
    sql.execute(
        """
        INSERT INTO messages (message_id, user_id, device_id, direction, status, recipient_number, sender_number,
                              message, my_id, created_at, delivered_at, failed_at, received_at)
        SELECT gen_random_uuid(), %s, 1 + i %% 2, d,
               CASE WHEN d = 'inbound' THEN 'received' WHEN i %% 1000 = 0 THEN 'failed' ELSE 'delivered' END,
               CASE WHEN d = 'outbound' THEN '+99890' || lpad((i %% 1000)::text, 7, '0') END,
               CASE WHEN d = 'inbound' THEN '+99891' || lpad((i %% 1000)::text, 7, '0') END,
               CASE WHEN i > 150000 THEN 'Newest' ELSE 'Hello' END,
               CASE WHEN i %% 2 = 0 THEN 'order-' || i %% 5 END, now() - (%s - i) * interval '10 seconds',
               now(), now(), now()
        FROM generate_series(1, %s) i, LATERAL (SELECT CASE WHEN i %% 20 = 7 THEN 'inbound' ELSE 'outbound' END) x(d)
        """,
        (ali.id, ROWS, ROWS),
    )
    sql.execute(
        "INSERT INTO devices (id, user_id, device_id, device_name, registered_name, sms_rate, hook_secret, signing_key)"
        " OVERRIDING SYSTEM VALUE SELECT i, %s, 'phone-' || i, 'x', 'x', 1, 'hook-' || i, 'k'"
        " FROM generate_series(1, 2) i",
        (ali.id,),
    )
    sql.execute("VACUUM ANALYZE messages")
    sql.execute(
        "INSERT INTO usage_totals (user_id, day, kind, n, amount) SELECT %s, current_date, kind, n, 0"
        " FROM (VALUES ('accepted', 190000), ('sent', 190000), ('delivered', 189800), ('failed', 200),"
        " ('received', 10000)) figures(kind, n)",
        (ali.id,),
    )
    return Principal(ali.id, 1, "key", frozenset("*"), is_premium=False, default_device_id=None, default_region=None)


LISTS = [
    {},
    {"direction": "outbound"},
    {"direction": "inbound"},
    {"status": "failed"},
    {"status": "delivered"},
    {"device_id": "2"},
    {"device_id": "2", "status": "failed"},
    {"device_id": "1", "direction": "outbound"},
    {"number": "+998900000008"},
    {"my_id": "order-2"},
    {"my_id": "order-2", "number": "+998900000002"},
    {"from": "2026-01-01"},
    {"search": "newest", "from": (datetime.now(UTC) - timedelta(days=30)).isoformat()},
]


def test_a_page_reads_little_more_than_it_shows(history):
    for wanted in LISTS:
        statements = []

        def note(_connection, _cursor, statement, parameters, _context, _many, statements=statements):
            if "FROM messages" in statement:
                statements.append((statement, parameters))

        with transaction() as session:
            event.listen(session.connection(), "before_cursor_execute", note)
            queries.page(session, history, MessageFilter(**wanted), Paging(1, 50, "", ()))
            event.remove(session.connection(), "before_cursor_execute", note)
            read = [_rows_read(session, *statement) for statement in statements]
        assert 0 < len(read) < 3, wanted
        assert read[0] < 1000, wanted
        # What is counted is counted to 10,000, along each walk.
        assert all(rows <= len(Status) * (queries.MAX_COUNTED + 1) for rows in read[1:]), wanted


def _rows_read(session, statement, parameters) -> int:
    explained = session.connection().exec_driver_sql(f"EXPLAIN (ANALYZE, FORMAT JSON) {statement}", parameters)
    nodes, rows = [explained.scalar()[0]["Plan"]], 0
    while nodes:
        node = nodes.pop()
        nodes += node.get("Plans", [])
        if node.get("Relation Name") == "messages":
            removed = node.get("Rows Removed by Filter", 0)
            rows += (node["Actual Rows"] + removed) * node["Actual Loops"]
    return rows
