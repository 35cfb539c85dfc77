"""The migration that moves what is in the parts of MMS to a table of its own."""

import json
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

from sqlalchemy import text

from tests.support.messages_of import add_message

FILE = Path(__file__).parents[3] / "app" / "migrations" / "versions" / "0009_attachments.py"


def parts_of(sql):
    rows = sql.execute("SELECT attachments FROM messages ORDER BY id").fetchall()
    kept = sql.execute("SELECT message_id, user_id, size, data FROM message_attachments ORDER BY message_id").fetchall()
    return [row[0] for row in rows], kept


def test_what_is_in_old_messages_is_moved_in_order_and_back(ali, sql, database):
    spec = spec_from_file_location("moving", FILE)
    migration = module_from_spec(spec)
    spec.loader.exec_module(migration)
    parts = [{"part_id": 1, "data": "AAAA" * 2000}, {"part_id": 2, "data": None}, {"part_id": 3, "data": "BB=="}]
    whole = add_message(sql, ali, direction="inbound", kind="mms", attachments=json.dumps(parts))
    for none in ("[]", None, '[{"part_id": 4}]'):
        add_message(sql, ali, direction="inbound", kind="mms", attachments=none)
    add_message(sql, ali)
    before, _ = parts_of(sql)

    def run(statement):
        sql.execute(text(statement).text)

    run(migration._MOVE)
    after, kept = parts_of(sql)
    assert after[0] == [{"part_id": 1}, {"part_id": 2}, {"part_id": 3}]
    assert after[1:] == before[1:]
    assert kept == [(whole, ali.id, 8004, ["AAAA" * 2000, None, "BB=="])]
    run(migration._MOVE_BACK)
    assert parts_of(sql)[0] == before
