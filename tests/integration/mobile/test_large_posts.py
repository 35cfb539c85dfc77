"""What phones post that is large: cut, limited, kept apart from lists, and nobody else's business."""

import hashlib
import hmac
import json
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from app.core.settings import get_settings
from app.messages import attachments
from app.mobile import events

MIB = 1024 * 1024


@pytest.fixture
def phone(phone):
    phone.sync()
    return phone


def newest(client):
    message = client.get("/api/sms/inbox").json()["data"]["data"][0]
    return message, client.get(f"/api/sms/{message['id']}").json()["data"]


def picture(size, **told):
    return {"partId": 1, "contentType": "image/png", "name": "a.png", "size": size, "data": "A" * size} | told


def mms(phone, *parts):
    payload = {"body": "Look", "attachments": list(parts), "sender": "+15550001111", "messageId": str(time.time_ns())}
    assert phone.hook("mms:downloaded", payload) == 200


def test_twelve_huge_texts_delay_no_other_phones_messages(enroll, phone, client, sql):
    rogue = enroll(name="rogue")
    rogue.sync()
    texts = ["x" * (30 * MIB), "я" * (5 * MIB), "🇺🇿" * (1 * MIB), "\0" * (5 * MIB)]
    posts = [post_of(rogue, texts[n % 4], n) for n in range(12)]
    took = []
    with ThreadPoolExecutor(12) as pool:
        answers = [pool.submit(httpx.post, rogue.hooks[0]["url"], timeout=60, **post) for post in posts]
        while not all(answer.done() for answer in answers) or len(took) < 30:
            began = time.monotonic()
            assert phone.receive("+15550001111", f"hi {len(took)}", messageId=str(len(took))) == 200
            took.append(time.monotonic() - began)
        # What is beyond the memory for bodies is refused for now: the rogue's, not the other's.
        assert {answer.result().status_code for answer in answers} <= {200, 503}
    took.sort()
    # 250 ms are promised of a gateway that has a process to itself; this one shares it with twelve clients.
    p50, p99 = took[len(took) // 2], took[int(len(took) * 0.99)]
    assert p99 < 2, f"{len(took)} posts, p50 {p50:.3f} s, p99 {p99:.3f} s"
    # What was refused is posted again, as phones do, and has room now.
    assert [httpx.post(rogue.hooks[0]["url"], timeout=60, **post).status_code for post in posts[:4]] == [200] * 4
    lengths = {length for (length,) in sql.execute("SELECT length(message) FROM messages WHERE message !~ '^hi '")}
    assert lengths == {0, events.MAX_TEXT_LENGTH}


def post_of(phone, text, number):
    payload = {"message": text, "sender": "+15550001111", "messageId": str(number), "receivedAt": phone.now()}
    raw = json.dumps({"id": f"huge {number}", "event": "sms:received", "payload": payload}).encode()
    at = str(int(time.time()))
    signature = hmac.new(phone.signing_key.encode(), raw + at.encode(), hashlib.sha256).hexdigest()
    return {"content": raw, "headers": {"X-Timestamp": at, "X-Signature": signature}}


def test_every_field_of_a_phone_has_a_length(phone, client):
    long = "n" * 5000
    part = {"partId": long, "contentType": long, "name": long, "size": 10**40, "data": "AA=="}
    payload = {"body": "я" * 200_000, "sender": long, "recipient": long, "messageId": long, "attachments": [part]}
    assert phone.hook("mms:downloaded", payload, event_id=long) == 200
    assert phone.hook("app:started", {"simCards": [{"slotIndex": 0, "phoneNumber": long, "iccid": long}] * 50}) == 200
    _, message = newest(client)
    assert len(message["message"]) == events.MAX_TEXT_LENGTH
    assert (len(message["sender_number"]), len(message["recipient_number"])) == (32, 32)
    (kept,) = message["attachments"]
    assert {name: len(kept[name]) for name in ("part_id", "content_type", "name")} == dict.fromkeys(
        ("part_id", "content_type", "name"), 255
    )
    assert kept["size"] is None
    assert phone.report("x" * 36, "Failed", error="e" * 100_000) == 204


def test_lists_read_nothing_of_what_is_in_attachments(phone, client, sql):
    mms(phone, picture(1000), picture(2000, partId=2))
    listed, shown = newest(client)
    assert [len(part["data"]) for part in shown["attachments"]] == [1000, 2000]
    assert listed["attachments"] == [{k: v for k, v in part.items() if k != "data"} for part in shown["attachments"]]
    ((row,),) = sql.execute("SELECT attachments::text FROM messages").fetchall()
    assert "AAAA" not in row


def test_what_is_too_much_of_an_mms_is_left_out_and_says_so(phone, client, monkeypatch):
    monkeypatch.setattr(attachments, "MAX_PART_SIZE", 1000)
    monkeypatch.setattr(attachments, "MAX_MESSAGE_SIZE", 1500)
    monkeypatch.setattr(attachments, "MAX_PARTS", 4)
    mms(phone, picture(1001), picture(1000), picture(501), picture(500), picture(1), picture(1))
    listed, shown = newest(client)
    told = [(part.get("omitted"), len(part["data"] or "")) for part in shown["attachments"]]
    assert told == [
        ("part_too_large", 0),
        (None, 1000),
        ("message_too_large", 0),
        (None, 500),
        ("too_many_parts", 0),
    ]
    assert [part.get("omitted") for part in listed["attachments"]] == [omitted for omitted, _ in told]
    assert [part["size"] for part in shown["attachments"]] == [1001, 1000, 501, 500, None]


def test_an_account_keeps_so_much_and_a_deleted_mms_makes_room(phone, client, sql, monkeypatch):
    monkeypatch.setattr(get_settings(), "attachment_storage_mb", 1)
    for _ in range(3):
        mms(phone, picture(MIB // 2))
    listed = client.get("/api/sms/inbox").json()["data"]["data"]
    assert [message["attachments"][0].get("omitted") for message in listed] == ["account_full", None, None]
    assert [message["message"] for message in listed] == ["Look"] * 3
    client.delete(f"/api/sms/{listed[1]['id']}")
    sql.execute("UPDATE messages SET deleted_at = now() - interval '8 days' WHERE deleted_at IS NOT NULL")
    from app.core.database import transaction
    from app.messages.life.cleaning import STATEMENTS, clean

    with transaction() as session:
        for statement in STATEMENTS:
            clean(session, statement)
    mms(phone, picture(MIB // 2))
    _, shown = newest(client)
    assert len(shown["attachments"][0]["data"]) == MIB // 2


def test_a_part_that_is_no_base64_has_no_content(phone, client):
    mms(phone, picture(4, data="приве"), picture(4, data="A\0\0A"))
    _, shown = newest(client)
    assert [part["data"] for part in shown["attachments"]] == [None, "AA"]


def test_what_an_older_version_kept_in_the_row_is_shown(phone, client, sql):
    mms(phone, picture(4))
    old = json.dumps([{"part_id": 1, "content_type": "image/png", "name": "a.png", "size": 4, "data": "BBBB"}])
    sql.execute("DELETE FROM message_attachments")
    sql.execute("UPDATE messages SET attachments = %s::jsonb", (old,))
    listed, shown = newest(client)
    assert shown["attachments"][0]["data"] == "BBBB"
    assert "data" not in listed["attachments"][0]


def test_a_large_post_that_is_forged_is_a_401_and_one_that_is_no_event_a_400(phone, sql):
    payload = {"message": "x" * 200_000, "sender": "y"}
    assert phone.hook("sms:received", payload, **{"X-Signature": "0" * 64}) == 401
    assert phone.hook("sms:received", payload) == 200
    assert sql.execute("SELECT count(*) FROM messages").fetchone()[0] == 1
