"""The database, and what of the gateway's work stands in it: what waits, phones, webhooks."""

import time
from typing import Any

import psycopg
from psycopg.rows import namedtuple_row

from app.checks.finding import Finding, Findings, broken, duration, note, ok, warning
from app.core.connecting import pin_settings
from app.core.settings import Settings
from app.devices.presence import ONLINE, SILENT, SUSPECT
from app.messages.dispatch import pace
from app.messages.states import Stage
from app.migrations.revisions import is_newer, revisions
from app.migrations.role import ROLE_SETTINGS

OLDEST_POSTGRES = 15
MAX_CLOCK_DIFFERENCE_SECONDS = 5
MAX_SNAPSHOT_SECONDS = 300
MAX_WAIT_SECONDS = 120
MAX_BACKUP_SECONDS = 8 * 86400  # for one a week
_NAMED = 5  # of many phones or receivers

Connection = psycopg.Connection[Any]


def look(settings: Settings) -> Findings:
    try:
        with psycopg.connect(settings.database_dsn.replace("+psycopg", "", 1), connect_timeout=5) as connection:
            is_pooled = pin_settings(connection)
            connection.row_factory = namedtuple_row
            connection.autocommit = True  # a query that fails, of a schema of another version, leaves the others be
            yield from _server(connection)
            if is_pooled:
                yield ok("prepared statements", "disabled, because the database is behind a pooler such as PgBouncer")
            schema = _schema(connection)
            yield schema
            if schema.good:
                for check in (_waiting, _deliveries, _phones, _receivers, _backup):
                    yield from check(connection)
    except psycopg.Error as error:
        yield broken(
            "database", str(error).strip(), "check that PostgreSQL runs, and SMSFLEET_DATABASE_URL with its password"
        )


def _server(connection: Connection) -> Findings:
    row = connection.execute("""
        SELECT current_setting('server_version') AS version,
               CAST(current_setting('server_version_num') AS integer) / 10000 AS major,
               current_setting('transaction_read_only') = 'on' AS read_only,
               EXTRACT(EPOCH FROM clock_timestamp()) AS now,
               CAST(current_setting('max_connections') AS integer) AS places,
               (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend') AS taken
    """).fetchone()
    assert row
    if row.major < OLDEST_POSTGRES:
        yield broken("database", f"PostgreSQL {row.version}", f"update it to {OLDEST_POSTGRES} or newer")
    elif row.read_only:
        yield broken(
            "database",
            f"PostgreSQL {row.version} is read-only: it is a standby, or configured so",
            "let SMSFLEET_DATABASE_URL lead to the primary",
        )
    else:
        yield ok("database", f"PostgreSQL {row.version}")
    difference = abs(float(row.now) - time.time())
    if difference > MAX_CLOCK_DIFFERENCE_SECONDS:
        yield warning(
            "clocks",
            f"this machine and the database differ by {duration(difference)}",
            "synchronize both by NTP: times shown, and tokens of others, are wrong by as much",
        )
    else:
        yield ok("clocks", "this machine and the database agree")
    if row.taken * 10 > row.places * 9:
        yield warning(
            "connections",
            f"{row.taken} of the database's {row.places} are in use",
            "raise max_connections, or put PgBouncer between",
        )
    yield _role(connection)
    yield from _commits(connection)
    yield from _snapshot(connection)


def _role(connection: Connection) -> Finding:
    others = [
        f"{name} is {found}"
        for name, wanted in ROLE_SETTINGS.items()
        for (found,) in connection.execute("SELECT current_setting(%s)", [name])
        if found != wanted
    ]
    if others:
        return warning(
            "role's settings",
            ", ".join(others),
            "run `smsfleet migrate`, which sets them; a dump that was restored has none of them",
        )
    return ok("role's settings", "as `smsfleet migrate` sets them")


def _commits(connection: Connection) -> Findings:
    row = connection.execute("""
        SELECT count(*) AS n, EXTRACT(EPOCH FROM clock_timestamp() - min(xact_start)) AS seconds FROM pg_stat_activity
        WHERE wait_event = 'SyncRep' AND clock_timestamp() - state_change > interval '3 seconds'
    """).fetchone()
    assert row
    if row.n:
        yield broken(
            "commits",
            f"{row.n} wait for a synchronous standby, one for {duration(row.seconds)}: nothing is accepted",
            "bring the standby back, or go on without it: `ALTER SYSTEM SET synchronous_standby_names = ''`, then"
            " `SELECT pg_reload_conf()`",
        )


def _snapshot(connection: Connection) -> Findings:
    row = connection.execute("""
        SELECT pid, COALESCE(NULLIF(application_name, ''), 'a program') AS program,
               EXTRACT(EPOCH FROM clock_timestamp() - xact_start) AS seconds
        FROM pg_stat_activity
        WHERE xact_start IS NOT NULL AND backend_type = 'client backend' AND datname = current_database()
          AND pid <> pg_backend_pid()
        ORDER BY xact_start LIMIT 1
    """).fetchone()
    if row and row.seconds > MAX_SNAPSHOT_SECONDS:
        yield warning(
            "oldest transaction",
            f"{row.program} (process {row.pid} of the database) has had one open for {duration(row.seconds)}",
            "end it: until then nothing that was deleted is cleaned up, and queues get slower."
            f" `SELECT pg_terminate_backend({row.pid})` does so by force",
        )
    else:
        yield ok("oldest transaction", "none is older than five minutes")


def _schema(connection: Connection) -> Finding:
    wanted = revisions()[0]
    try:
        row = connection.execute("SELECT version_num FROM alembic_version").fetchone()
    except psycopg.errors.UndefinedTable:
        row = None
    found = row.version_num if row else "none"
    if found == wanted:
        return ok("schema", found)
    if row and is_newer(found):
        return broken(
            "schema", f"{found} is of a newer smsfleet; this one knows up to {wanted}", "run the newer version"
        )
    return broken("schema", f"{found}, but this version requires {wanted}", "run `smsfleet migrate`")


def _waiting(connection: Connection) -> Findings:
    row = connection.execute(
        f"""
        SELECT count(*) AS accounts, EXTRACT(EPOCH FROM clock_timestamp() - min(first.since)) AS seconds
        FROM (SELECT DISTINCT user_id FROM devices WHERE is_active AND removed_at IS NULL) AS u, LATERAL (
            SELECT q.since FROM message_queue q
            WHERE q.user_id = u.user_id AND q.device_id = 0 AND q.stage = {Stage.WAITING}
            ORDER BY q.lane, q.message_id LIMIT 1) AS first
        WHERE first.since < clock_timestamp() - make_interval(secs => %s) AND EXISTS (
            SELECT FROM devices d JOIN device_state s ON s.device_id = d.id
            WHERE d.user_id = u.user_id AND d.is_active AND d.removed_at IS NULL AND {ONLINE}
              AND COALESCE(s.held_until <= clock_timestamp(), true)
              AND (SELECT count(*) FROM message_queue o WHERE o.user_id = d.user_id AND o.device_id = d.id)
                  < {pace.MIN_LOOKAHEAD})
        """,  # noqa: S608 - constants
        [MAX_WAIT_SECONDS],
    ).fetchone()
    assert row
    if row.accounts:
        yield broken(
            "waiting messages",
            f"those of {row.accounts} accounts have waited for up to {duration(row.seconds)}, though a phone is free",
            "see whether a dispatch worker works, and has room: `queue dispatch` here, Flower, or its log",
        )
    else:
        yield ok("waiting messages", "none waits where a phone is free")


def _deliveries(connection: Connection) -> Findings:
    row = connection.execute(
        """
        SELECT count(*) AS overdue, EXTRACT(EPOCH FROM clock_timestamp() - min(q.next_attempt_at)) AS seconds FROM (
            SELECT q.next_attempt_at FROM webhook_queue q
            LEFT JOIN webhook_targets t ON t.user_id = q.user_id AND t.origin = q.origin
            WHERE q.next_attempt_at < clock_timestamp() - make_interval(secs => %s) AND q.lease_until IS NULL
              AND COALESCE(t.fail_count, 0) = 0
            LIMIT 10000) AS q
        """,
        [MAX_WAIT_SECONDS],
    ).fetchone()
    assert row
    if row.overdue:
        yield warning(
            "waiting webhooks",
            f"{row.overdue} to receivers that answer are overdue, by up to {duration(row.seconds)}",
            "see whether a webhooks worker works; add another one if it is busy",
        )
    else:
        yield ok("waiting webhooks", "none is overdue")


def _phones(connection: Connection) -> Findings:
    row = connection.execute(
        f"""
        SELECT count(*) AS phones, count(*) FILTER (WHERE {ONLINE}) AS online,
               (array_agg(d.id ORDER BY d.id) FILTER (WHERE s.seen_at IS NOT NULL AND ({SILENT} OR {SUSPECT}))) AS away
        FROM devices d JOIN device_state s ON s.device_id = d.id WHERE d.is_active AND d.removed_at IS NULL
        """  # noqa: S608 - constants
    ).fetchone()
    assert row
    if row.away:
        named = ", ".join(str(one) for one in row.away[:_NAMED]) + (" and others" if len(row.away) > _NAMED else "")
        yield warning(
            "phones",
            f"{row.online} of {row.phones} enabled phones are online; away without a word: device {named}",
            "see that it is charged, connected, and that its system lets the app run in the background",
        )
    else:
        yield ok("phones", f"{row.online} of {row.phones} enabled phones are online")


def _receivers(connection: Connection) -> Findings:
    rows = connection.execute(
        """
        SELECT origin, count(*) AS accounts, max(fail_count) AS failures,
               EXTRACT(EPOCH FROM clock_timestamp() - min(failing_since)) AS seconds
        FROM webhook_targets WHERE fail_count >= 3 GROUP BY origin ORDER BY failures DESC LIMIT %s
        """,
        [_NAMED],
    ).fetchall()
    for row in rows:
        yield warning(
            "webhook receivers",
            f"{row.failures} calls of {row.origin} failed one after the other, for {duration(row.seconds or 0)}",
            "its owner finds the reason in the list of webhook deliveries; calls go on, more and more seldom",
        )
    if not rows:
        yield ok("webhook receivers", "all answer, or none has failed three times in a row")


def _backup(connection: Connection) -> Findings:
    row = connection.execute("""
        SELECT EXTRACT(EPOCH FROM clock_timestamp() - created_at) AS seconds FROM audit_events
        WHERE action = 'backup_made' ORDER BY id DESC LIMIT 1
    """).fetchone()
    if row is None:
        yield note("backup", "none was made with `smsfleet backup`; see that something else makes them")
    elif row.seconds > MAX_BACKUP_SECONDS:
        yield warning(
            "backup",
            f"the last one with `smsfleet backup` is {duration(row.seconds)} old",
            "see why the one that was due was not made, and make one",
        )
    else:
        yield ok("backup", f"the last one is {duration(row.seconds)} old")
