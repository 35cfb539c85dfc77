"""Inbound messages: signed, told once, kept as what they are."""

import base64
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from tests.support.strict_phone import SIMS


@pytest.fixture
def phone(phone):
    phone.sync()
    return phone


# Python reads the one, and could not write it again; the other takes thirty times its size.
DEEP = b'{"event": "sms:received", "payload": {"message": "%s", "x": %s}}' % (b"x" * 70_000, b"[" * 980 + b"]" * 980)
WIDE = b'{"event": "sms:received", "payload": {"x": [%s]}}' % b",".join([b"[]"] * 1_500_000)


def inbox(client):
    return client.get("/api/sms/inbox").json()["data"]["data"]


def stored(sql):
    return sql.execute("SELECT count(*) FROM messages").fetchone()[0]


def test_an_sms_is_kept_with_all_that_the_phone_told(client, phone):
    assert phone.receive("6505551212", "Salom, дунё 👋", recipient="+1234567890", simNumber=2) == 200
    (message,) = inbox(client)
    shown = client.get(f"/api/sms/{message['id']}").json()["data"]
    told = {
        key: shown[key] for key in ("sender_number", "recipient_number", "message", "sim_slot", "direction", "kind")
    }
    assert told == {
        "sender_number": "6505551212",
        "recipient_number": "+1234567890",
        "message": "Salom, дунё 👋",
        "sim_slot": 1,
        "direction": "inbound",
        "kind": "sms",
    }
    assert (shown["status"], shown["price"], shown["encoding"], shown["segments"]) == ("received", 0, "ucs2", 1)
    assert shown["received_at"] <= shown["created_at"]
    (device,) = client.get("/api/devices").json()["data"]
    assert device["phone_number"] == "+1234567890", "learnt, where it was not known"


def test_the_same_event_again_changes_nothing(client, phone, sql):
    for _ in range(3):
        assert phone.receive("Bank", "code 1", event_id="Ey6ECgOkVVFjz3CL48B8C") == 200
    assert stored(sql) == 1
    assert client.get("/api/account").json()["data"]["stats"]["total_received"] == 1


def test_the_apps_double_post_of_one_sms_is_one(phone, sql):
    at = phone.now()
    with ThreadPoolExecutor(4) as pool:
        posts = [pool.submit(phone.receive, "+998901112233", "hi", receivedAt=at) for _ in range(4)]
        assert {post.result() for post in posts} == {200}
    assert phone.receive("+998901112233", "hi", receivedAt=phone.now(2)) == 200
    assert stored(sql) == 1
    assert phone.receive("+998901112233", "hi", receivedAt=phone.now(60)) == 200, "the same words a minute later"
    assert phone.receive("+998901112233", "hi!", receivedAt=at) == 200
    assert phone.receive("+998901112234", "hi", receivedAt=at) == 200
    assert stored(sql) == 4


def test_what_two_sims_receive_at_once_is_two(client, phone, sql):
    at = phone.now()
    for sim in (1, 2, 1):
        assert phone.receive("Bank", "code", receivedAt=at, simNumber=sim) == 200
    assert sorted(message["sim_slot"] for message in inbox(client)) == [0, 1]


def test_equal_reports_of_a_tracker_are_told_apart_by_the_apps_id(phone, sql):
    for number, later in enumerate((0, 2, 4)):
        assert phone.receive("+15550001111", "OK", messageId=f"3fa{number}", receivedAt=phone.now(later - 5)) == 200
    assert stored(sql) == 3
    assert phone.receive("+15550001111", "OK", messageId="3fa1", receivedAt=phone.now(-3)) == 200, "one of them again"
    assert stored(sql) == 3


@pytest.fixture
def newer(enroll):
    newer = enroll(version="1.75.0", name="newer")
    newer.sync()
    return newer


def test_a_batch_of_an_app_is_its_messages_each_once(client, newer, sql):
    def received(text, number):
        at = newer.now(number - 9)
        return {"message": text, "sender": "+15550001111", "messageId": str(number), "receivedAt": at, "simNumber": 1}

    items = [received(str(number), number) for number in range(3)]
    assert newer.receive(**{**items[1], "message": "1"}) == 200, "which came alone already"
    for _ in range(2):
        assert newer.hook("sms:batch:received", {"messages": [*items, "?", {}]}, event_id="b1") == 200
    assert sorted(message["message"] for message in inbox(client)) == ["", "0", "1", "2"]
    picture = {"partId": 1, "contentType": "image/png", "data": "iVBORw=="}
    whole = {"body": "Look", "attachments": [picture], "sender": "+15550001111", "messageId": "9"}
    assert newer.hook("mms:batch:downloaded", {"messages": [whole]}) == 200
    assert newer.hook("sms:batch:data-received", {"messages": [{"data": "AAE=", "sender": "1"}]}) == 200
    assert [message["kind"] for message in inbox(client)[:2]] == ["data", "mms"]


@pytest.mark.parametrize("messages", [None, {}, "x", [], [[]] * 5])
def test_an_empty_or_odd_batch_is_taken(newer, sql, messages):
    assert newer.hook("sms:batch:received", {"messages": messages}) == 200
    assert stored(sql) == 0


def test_two_phones_may_receive_the_same(phone, enroll, sql):
    second = enroll(name="second")
    second.sync()
    at = phone.now()
    assert phone.receive("Bank", "code", receivedAt=at) == second.receive("Bank", "code", receivedAt=at) == 200
    assert stored(sql) == 2


@pytest.mark.parametrize(
    "forged",
    [
        {"X-Signature": "0" * 64},
        {"X-Signature": ""},
        {"X-Timestamp": "1"},
        {"X-Signature": "\u00e9\u00e8".encode("latin-1").decode("latin-1")},
    ],
)
def test_forged_posts_are_refused_and_counted(client, phone, sql, forged):
    def counted():
        text = client.get("/metrics").text
        return sum(
            float(line.rsplit(" ", 1)[1])
            for line in text.splitlines()
            if line.startswith('smsfleet_hooks_refused_total{reason="forged"}')
        )

    before = counted()
    headers = {key: value.encode("latin-1") for key, value in forged.items()}
    assert phone.hook("sms:received", {"message": "x", "sender": "y"}, **headers) == 401
    assert counted() == before + 1
    assert stored(sql) == 0


def test_the_signature_is_over_the_bytes_as_they_came(api, phone, sql):
    body = b'{ "event" : "sms:received", "id":"x",  "payload":{"message":"a","sender":"b"} }'
    import hashlib
    import hmac

    signature = hmac.new(phone.signing_key.encode(), body + b"1719045971", hashlib.sha256).hexdigest()
    url = httpx.URL(phone.hooks[0]["url"])
    headers = {"X-Timestamp": "1719045971", "X-Signature": signature, "Content-Type": "application/json"}
    assert api.post(url, content=body, headers=headers).status_code == 200, "a clock that is years off is no forgery"
    assert api.post(url, content=body.replace(b"  ", b" "), headers=headers).status_code == 401
    assert stored(sql) == 1


def test_an_unknown_or_removed_hook_is_a_401(api, client, phone):
    assert api.post("/hooks/unknown", json={}).status_code == 401
    client.delete(f"/api/devices/{phone.device_id}")
    assert phone.receive("a", "b") == 401


def test_text_that_cannot_be_stored_is_mended_and_not_refused(client, phone):
    assert phone.receive("ev\0il", "nul \0 and half \ud83d of a pair") == 200
    (message,) = inbox(client)
    assert (message["sender_number"], message["message"]) == ("evil", "nul  and half ? of a pair")


@pytest.mark.parametrize(
    "payload",
    [
        {},
        {"message": None, "sender": None, "receivedAt": 7},
        {"message": ["x"], "sender": {"a": 1}, "simNumber": "2"},
        {"message": "x", "sender": "n" * 5000, "receivedAt": "0001-01-01T00:00:00+14:00", "simNumber": 99},
        {"message": "x" * 200_000, "sender": "y", "receivedAt": "9999-12-31T23:59:59-14:00"},
    ],
)
def test_odd_payloads_are_never_an_error(phone, payload, sql):
    assert phone.hook("sms:received", payload) == 200
    assert stored(sql) == 1


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b"null", b'{"event": 3}', b"\xff\xfe", b"[" * 100_000, DEEP, WIDE])
def test_a_signed_post_that_is_no_event_is_a_400(api, phone, body):
    import hashlib
    import hmac

    signature = hmac.new(phone.signing_key.encode(), body + b"5", hashlib.sha256).hexdigest()
    headers = {"X-Timestamp": "5", "X-Signature": signature, "Content-Type": "application/json"}
    assert api.post(phone.hooks[0]["url"], content=body, headers=headers).status_code == 400


def test_a_large_post_of_a_stranger_is_refused_before_it_is_read(api, phone):
    for path in (phone.hooks[0]["url"], "/hooks/unknown"):
        assert api.post(path, content=WIDE, headers={"X-Timestamp": "5", "X-Signature": "5"}).status_code == 401


def test_mms_and_data_sms_are_kept_as_what_they_are(client, phone):
    data = base64.b64encode(b"\x00\x01").decode()
    assert phone.hook("sms:data-received", {"data": data, "sender": "+15550001111", "receivedAt": phone.now()}) == 200
    notice = {"transactionId": "T1", "subject": "Photo", "size": 1000, "sender": "+15550001111"}
    assert phone.hook("mms:received", notice) == 200
    picture = {"partId": 1, "contentType": "image/png", "name": "a.png", "size": 4, "data": "iVBORw=="}
    whole = {"body": "Look", "attachments": [picture, "?", {"data": {}}], "sender": "+15550001111"}
    assert phone.hook("mms:downloaded", whole) == 200
    newest, oldest = inbox(client)
    assert [newest["kind"], oldest["kind"]] == ["mms", "data"]
    assert (newest["message"], oldest["message"]) == ("Look", data)
    listed = {"part_id": 1, "content_type": "image/png", "name": "a.png", "size": 4}
    assert newest["attachments"][0] == listed
    shown = client.get(f"/api/sms/{newest['id']}").json()["data"]
    assert shown["attachments"][0] == listed | {"data": "iVBORw=="}


def notice_of(phone, subject, sender="+15550001111", ago=0):
    payload = {"transactionId": subject, "messageId": subject, "subject": subject, "sender": sender}
    return phone.hook("mms:received", payload | {"receivedAt": phone.now(-ago)}, event_id=f"n-{subject}")


def download_of(phone, body, sender="+15550001111", ago=0):
    payload = {"messageId": "17", "body": body, "attachments": [], "sender": sender}
    return phone.hook("mms:downloaded", payload | {"receivedAt": phone.now(-ago)}, event_id=f"d-{body}")


def test_an_mms_is_one_message_from_its_notice_to_its_download(client, phone, sql, ali):
    sql.execute(
        "INSERT INTO webhook_urls (user_id, hook, url, origin)"
        " VALUES (%s, 'incoming', 'http://example.org/in', 'http://example.org:80')",
        (ali.id,),
    )
    for _ in range(2):
        assert notice_of(phone, "Photo") == 200
    (notice,) = inbox(client)
    for _ in range(2):
        assert download_of(phone, "Look") == 200
    (whole,) = inbox(client)
    assert (notice["id"], notice["message"], whole["message"]) == (whole["id"], "Photo", "Look")
    assert client.get("/api/account").json()["data"]["stats"]["total_received"] == 1
    told = [row[0]["data"] for row in sql.execute("SELECT body::json FROM webhook_deliveries ORDER BY id")]
    assert [(event["id"], event["message"]) for event in told] == [(whole["id"], "Photo"), (whole["id"], "Look")]


def test_an_mms_that_is_never_downloaded_stays_beside_those_that_are(client, phone):
    assert notice_of(phone, "first", ago=600) == 200
    assert notice_of(phone, "second") == 200
    assert notice_of(phone, "another's", sender="+15550002222") == 200
    assert download_of(phone, "the second") == 200
    assert download_of(phone, "no notice", sender="+15550003333") == 200
    assert {message["message"] for message in inbox(client)} == {"first", "the second", "another's", "no notice"}
    assert client.get("/api/account").json()["data"]["stats"]["total_received"] == 4


def test_a_notice_that_comes_after_its_mms_tells_nothing(client, phone, sql, ali):
    """The gateway was away for a second, and the app posts the notice again when the MMS is there already."""
    sql.execute(
        "INSERT INTO webhook_urls (user_id, hook, url, origin)"
        " VALUES (%s, 'incoming', 'http://example.org/in', 'http://example.org:80')",
        (ali.id,),
    )
    assert [download_of(phone, "Look", ago=60), notice_of(phone, "Photo", ago=63)] == [200, 200]
    assert [message["message"] for message in inbox(client)] == ["Look"]
    assert client.get("/api/account").json()["data"]["stats"]["total_received"] == 1
    told = [row[0]["data"] for row in sql.execute("SELECT body::json FROM webhook_deliveries ORDER BY id")]
    assert [event["message"] for event in told] == ["Look"]
    assert notice_of(phone, "next", ago=50) == 200, "each MMS has one"
    assert download_of(phone, "the next") == 200
    assert [message["message"] for message in inbox(client)] == ["the next", "Look"]


def test_an_mms_of_a_phone_whose_clock_is_far_off_is_taken(client, phone):
    whole = {"body": "Look", "sender": "+15550001111", "receivedAt": "0001-01-01T00:00:00.000Z"}
    assert phone.hook("mms:downloaded", whole) == 200
    assert phone.hook("mms:received", whole) == 200
    assert len(inbox(client)) == 1


def test_a_notice_long_after_an_mms_is_that_of_another(client, phone):
    assert [download_of(phone, "without", ago=3600), notice_of(phone, "another")] == [200, 200]
    assert {message["message"] for message in inbox(client)} == {"without", "another"}


def test_an_mms_that_is_not_to_be_kept_is_counted_once_too(client, phone, sql, ali):
    client.put("/api/settings", json={"keep_inbound": False})
    sql.execute(
        "INSERT INTO webhook_urls (user_id, hook, url, origin)"
        " VALUES (%s, 'incoming', 'http://example.org/in', 'http://example.org:80')",
        (ali.id,),
    )
    assert [notice_of(phone, "Photo"), download_of(phone, "Look")] == [200, 200]
    assert stored(sql) == 0
    assert client.get("/api/account").json()["data"]["stats"]["total_received"] == 1
    told = [row[0]["data"] for row in sql.execute("SELECT body::json FROM webhook_deliveries ORDER BY id")]
    assert [event["message"] for event in told] == ["Photo", "Look"]
    assert len({event["message_id"] for event in told}) == 1


def test_battery_and_version_are_learnt(client, enroll):
    phone = enroll(version="1.66.0")
    phone.sync()
    checks = {"battery:level": {"observedValue": 42, "observedUnit": "percent", "status": "pass"}}
    assert phone.hook("system:ping", {"health": {"status": "pass", "checks": checks}}) == 200
    for odd in ({}, {"health": []}, {"health": {"checks": {"battery:level": {"observedValue": "x"}}}}):
        assert phone.hook("system:ping", odd) == 200
    (device,) = client.get("/api/devices").json()["data"]
    assert (device["battery"], device["app_version"]) == (42, "1.66.0")
    phone.client.headers["User-Agent"] = "me.capcom.smsgateway/1.70.1"
    assert phone.receive("a", "b") == 200
    (device,) = client.get("/api/devices").json()["data"]
    assert device["app_version"] == "1.70.1"


def test_a_number_that_the_owner_set_stays(client, phone):
    client.patch(f"/api/devices/{phone.device_id}", json={"phone_number": "+998 90 000 00 00"})
    assert phone.receive("a", "b", recipient="+15551234567") == 200
    assert phone.hook("app:started", {"simCards": [SIMS[0] | {"phoneNumber": "+15551234567"}]}) == 200
    (device,) = client.get("/api/devices").json()["data"]
    assert device["phone_number"] == "+998900000000"


@pytest.mark.parametrize("told", ["by its card", "by an sms"])
def test_a_number_that_lacks_its_country_is_learnt_by_the_accounts_region(client, phone, told):
    client.put("/api/settings", json={"default_region": "UZ"})
    if told == "by its card":
        assert phone.hook("app:started", {"simCards": [SIMS[0] | {"phoneNumber": "90 000 00 00"}]}) == 200
    else:
        assert phone.receive("a", "b", recipient="900000000") == 200
    (device,) = client.get("/api/devices").json()["data"]
    assert device["phone_number"] == "+998900000000"


def test_what_is_not_to_be_kept_is_counted_and_told_but_not_stored(client, phone, sql, ali):
    client.put("/api/settings", json={"keep_inbound": False})
    sql.execute(
        "INSERT INTO webhook_urls (user_id, hook, url, origin)"
        " VALUES (%s, 'incoming', 'http://example.org/in', 'http://example.org:80')",
        (ali.id,),
    )
    assert phone.receive("+998901112233", "secret") == 200
    assert stored(sql) == 0
    assert client.get("/api/sms/inbox").json()["data"]["total"] == 0
    assert client.get("/api/account").json()["data"]["stats"]["total_received"] == 1
    ((body,),) = sql.execute("SELECT body::json FROM webhook_deliveries").fetchall()
    assert body["event"] == "incoming"
    assert (body["data"]["id"], body["data"]["message"]) == (None, "secret")
    assert body["data"]["message_id"]
    assert body["data"]["attachments"] == []


def test_what_is_kept_is_told_with_its_number(client, phone, sql, ali):
    sql.execute(
        "INSERT INTO webhook_urls (user_id, hook, url, origin)"
        " VALUES (%s, 'incoming', 'http://example.org/in', 'http://example.org:80')",
        (ali.id,),
    )
    assert phone.receive("+998901112233", "hello") == 200
    ((body,),) = sql.execute("SELECT body::json FROM webhook_deliveries").fetchall()
    (message,) = inbox(client)
    assert body["data"]["id"] == message["id"]
    assert body["data"]["status"] == "received"
