"""Settings of the database role, for every connection to this database.

Not start-up options, which PgBouncer refuses in transaction mode. `smsfleet migrate` sets them each time: a dump has
none of them, and a changed one needs no migration.
"""

from sqlalchemy import Connection, text

from app.core.connecting import PINNED

# What connections do not set themselves.
ROLE_SETTINGS = {
    # With the default of 4 a claim was measured to walk the primary key, 300 times slower, just after a bulk load.
    "random_page_cost": "1.1",
    "jit": "off",
    # Everything here is reached by an index. The queues' statistics are behind most of the time, and with them the
    # planner was seen to read a whole queue for twenty phones' rows each, forty times slower.
    "enable_seqscan": "off",
    "statement_timeout": "15s",
    # Who waits longer for a row gives up and repeats; what may wait longer says so in its own transaction.
    "lock_timeout": "300ms",
    "idle_in_transaction_session_timeout": "5s",
}
# Of connections by network; on a Unix socket they are nothing. A machine that is gone without a word leaves sessions
# behind that take places and, where one was about to send, hold locks: for hours, by the kernel's own limits.
NETWORK_SETTINGS = {
    "tcp_keepalives_idle": "5",
    "tcp_keepalives_interval": "5",
    "tcp_keepalives_count": "3",
    "tcp_user_timeout": "20s",
}


def set_up_role(connection: Connection) -> None:
    """Set them, for connections that open after the commit."""
    for name, value in {**ROLE_SETTINGS, **NETWORK_SETTINGS, **PINNED}.items():
        _set(connection, name, f"quote_literal('{value}')")
    # The tables are where this path has led; a later default of the role must not lead elsewhere.
    _set(connection, "search_path", "current_setting('search_path')")


def _set(connection: Connection, name: str, value: str) -> None:
    statement = f"ALTER ROLE CURRENT_USER IN DATABASE %I SET {name} = %s"
    connection.execute(text(f"DO $$ BEGIN EXECUTE format('{statement}', current_database(), {value}); END $$"))
