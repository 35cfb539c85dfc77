"""Enrolling, re-enrolling and removing phones."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest

from tests.support.strict_phone import SIMS, StrictPhone


def silence(sql, phone: StrictPhone) -> None:
    sql.execute(
        "UPDATE device_state SET seen_at = clock_timestamp() - interval '21 minutes', pulled_at = NULL,"
        " stream_seen_at = NULL FROM devices d WHERE d.id = device_state.device_id AND d.device_id = %s",
        (phone.device_id,),
    )


def test_an_invitation_is_all_that_a_phone_needs(client, gateway):
    answer = client.post("/api/devices/enrollment")
    assert answer.status_code == 201
    data = answer.json()["data"]
    assert data["server_url"] == f"{gateway.url}/api/mobile/v1"
    assert data["qr_svg"].startswith("<svg")
    assert data["warning"].startswith("Phones cannot reach http://127.0.0.1:")
    assert any("SSE Only" in step for step in data["steps"])
    assert any("app-insecure.apk" in step for step in data["steps"]), "plain http needs the other build"
    assert data["android_limit"]["recommended_send_delay_seconds"] == 60
    assert "30 SMS parts in 30 minutes" in data["android_limit"]["advice"]
    for command, setting in zip(
        data["android_limit"]["commands"],
        ("sms_outgoing_check_max_count", "sms_outgoing_check_interval_ms"),
        strict=True,
    ):
        assert f"settings put global {setting} " in command
        assert command in data["android_limit"]["advice"]
    phone = StrictPhone(gateway.url)
    phone.register(data["private_token"])
    assert [device["device_id"] for device in client.get("/api/devices").json()["data"]] == [phone.device_id]
    (key,) = client.get("/api/tokens").json()["data"]
    assert key["abilities"] == ["phone:enroll"]
    refused = client.get("/api/devices", headers={"Authorization": f"Bearer {data['private_token']}"})
    assert refused.status_code == 403
    phone.close()


def test_an_invitation_is_not_part_of_the_paid_api(client, configured, gateway):
    configured(FREE_FEATURES="")
    answer = client.post("/api/devices/enrollment")
    assert answer.status_code == 201
    phone = StrictPhone(gateway.url)
    phone.register(answer.json()["data"]["private_token"])
    phone.close()


def test_a_new_phone_is_as_the_public_api_says(client, phone):
    (device,) = client.get("/api/devices").json()["data"]
    shown = {key: device[key] for key in device if key not in {"id", "device_id", "last_seen_at", "created_at"}}
    assert shown == {
        "device_name": "samsung/a52qnsxx",
        "phone_number": None,
        "is_active": True,
        "awaits_approval": False,
        "is_default": False,
        "sms_rate": 100,
        "send_delay_seconds": 0,
        "send_delay_spread_seconds": 0,
        "default_sim_slot": 0,
        "sim_selection": "default",
        "limits": {},
        "online": True,
        "state": "online",
        "hint": None,
        "failing_since": None,
        "battery": None,
        "app_version": "1.68.0",
        "today": {"sent": 0, "delivered": 0, "failed": 0, "delivery_rate": 0},
    }


def test_a_new_phone_begins_with_the_delay_that_the_account_set(client, enroll, device_number):
    assert client.put("/api/settings", json={"default_send_delay_seconds": 60}).status_code == 200
    first = enroll(name="first")
    first.sync()
    assert first.settings["messages"]["send_interval_min"] == 60
    client.put("/api/settings", json={"default_send_delay_seconds": 0})
    second = enroll(name="second")
    delays = [
        client.get(f"/api/devices/{device_number(phone)}").json()["data"]["send_delay_seconds"]
        for phone in (first, second)
    ]
    assert delays == [60, 0], "only phones that are enrolled from then on"


IN_SECOND_SLOT = [SIMS[0] | {"slotIndex": 1, "simNumber": 2}]


@pytest.mark.parametrize("told", ["enrolling", "later", "by a hook"])
def test_a_phone_with_a_card_in_its_second_slot_only_sends_by_it(client, enroll, send, told):
    phone = enroll(sims=IN_SECOND_SLOT if told == "enrolling" else [])
    phone.sync()
    if told == "later":
        assert phone.announce(simCards=IN_SECOND_SLOT) == 204
    if told == "by a hook":
        assert phone.hook("app:started", {"simCards": IN_SECOND_SLOT}) == 200
    send(device_id=phone.device_id)
    assert [message["simNumber"] for message in phone.pull()] == [2]


def test_a_slot_that_its_owner_chose_stays_while_its_card_is_away(client, enroll, device_number):
    phone = enroll(sims=[SIMS[0], SIMS[0] | {"slotIndex": 1, "iccid": "****9999"}])
    chosen = f"/api/devices/{device_number(phone)}"
    client.patch(chosen, json={"default_sim_slot": 1})
    for cards in (SIMS, [], SIMS):
        assert phone.announce(simCards=cards) == 204
    assert client.get(chosen).json()["data"]["default_sim_slot"] == 1


@pytest.mark.parametrize("header", ["", "Bearer", "Bearer 1|wrong", "Basic YTpi", "Code 123456"])
def test_wrong_private_tokens_are_refused(api, header):
    answer = api.post("/api/mobile/v1/device", headers={"Authorization": header}, json={"name": "x"})
    assert answer.status_code == 401


def test_a_token_without_the_ability_enrolls_nothing(api, ali):
    answer = api.post("/api/mobile/v1/device", headers=ali.token("sms:send"), json={"name": "x"})
    assert answer.status_code == 403


@pytest.mark.parametrize(
    "cards",
    [None, [], "x", [None, 3, {}], [{"slotIndex": True}], [{"slotIndex": 0, "carrierName": 7, "iccid": "9" * 99}]],
)
def test_sim_cards_are_taken_as_they_come(enroll, cards):
    phone = enroll(sims=cards if cards is not None else None)
    assert phone.announce(simCards=cards) == 204


def test_the_same_phone_is_known_again_once_it_was_silent(client, enroll, sql):
    phone = enroll()
    silence(sql, phone)
    again = enroll()
    assert again.device_id == phone.device_id
    assert again.token != phone.token
    assert phone.announce() == 401, "the old token has ended"
    assert again.announce() == 204
    assert len(client.get("/api/devices").json()["data"]) == 1


def test_a_stream_that_stands_ends_with_its_token(enroll, sql):
    """Else a phone that hangs would be woken, and called online or not, in place of the one that was set up anew."""
    phone = enroll()
    with phone.stream() as stream:
        stream.until("SettingsUpdated")
        sql.execute(
            "UPDATE device_state SET seen_at = clock_timestamp() - interval '1 hour', pulled_at = NULL,"
            " woken_at = clock_timestamp() - interval '4 minutes'"
        )
        again = enroll()
        assert again.device_id == phone.device_id
        while stream.next() is not None:
            pass
    with again.stream() as stream:
        stream.until("SettingsUpdated")
        assert stream.rest() == []


@pytest.mark.parametrize("difference", ["name", "sims", "no sims", "not silent", "removed", "other user"])
def test_else_it_is_a_new_phone(client, enroll, sql, other, difference):
    phone = enroll(sims=[] if difference == "no sims" else SIMS)
    if difference == "removed":
        assert client.delete(f"/api/devices/{phone.device_id}").status_code == 200
    if difference != "not silent":
        silence(sql, phone)
    again = enroll(
        other if difference == "other user" else None,
        name="other/phone" if difference == "name" else phone.name,
        sims={"sims": [SIMS[0] | {"iccid": "****9999"}], "no sims": []}.get(difference, SIMS),
    )
    assert again.device_id != phone.device_id
    assert phone.announce() == (401 if difference == "removed" else 204)


def test_of_two_that_enroll_at_once_as_one_phone_the_second_is_new(enroll, sql):
    phone = enroll()
    silence(sql, phone)
    with ThreadPoolExecutor(4) as pool:
        ids = [future.result().device_id for future in [pool.submit(enroll) for _ in range(4)]]
    assert len(set(ids)) == 4
    assert ids.count(phone.device_id) == 1


def test_cards_told_whole_are_still_the_same_cards(enroll, sql):
    phone = enroll()
    phone.sync()
    whole = [
        {
            "slotIndex": 0,
            "simNumber": 1,
            "phoneNumber": "+99890123" + "4567",
            "carrierName": "ourobile",
            "iccid": "89981234",
        }
    ]
    phone = enroll(sims=[SIMS[0] | {"phoneNumber": "*********4567", "carrierName": "****bile"}], name="two")
    phone.sync()
    assert phone.hook("app:started", {"simCards": whole}) == 200
    number, cards = sql.execute(
        "SELECT phone_number, sim_cards FROM devices WHERE device_id = %s", (phone.device_id,)
    ).fetchone()
    assert (number, cards[0]["phone_number"]) == ("+998901234567", "+998901234567")
    silence(sql, phone)
    again = enroll(sims=phone.sims, name="two")
    assert again.device_id == phone.device_id


def test_a_removed_phone_may_only_report(client, enroll):
    phone = enroll()
    client.post("/api/devices/default-device", json={"device_id": phone.device_id})
    sent = client.post("/api/sms", json={"message": "x", "recipient_number": "+998901112233"}).json()["data"]
    (pulled,) = phone.pull()
    with phone.stream() as stream:
        stream.until("SettingsUpdated")
        assert client.delete(f"/api/devices/{phone.device_id}").json() == {
            "success": True,
            "message": "Device deleted successfully",
        }
        while stream.next() is not None:
            pass
    for call in ("/message", "/webhooks", "/settings", "/events"):
        assert phone.client.get(call, headers=phone.headers).status_code == 401
    assert phone.announce() == 401
    phone.send(pulled["id"])
    assert client.get(f"/api/sms/{sent['id']}").json()["data"]["status"] == "delivered"
    assert client.get("/api/devices").json()["data"] == []
    assert client.get(f"/api/devices/{phone.device_id}").status_code == 404
    refused = client.post("/api/sms", json={"message": "x", "recipient_number": "+998901112233"})
    assert refused.json()["message"] == "No active device available"


def test_a_stale_token_is_a_401(phone):
    phone.token = "of-another-server"
    assert phone.announce() == 401


def test_the_id_must_be_the_tokens_own(phone):
    phone.device_id = "another"
    assert phone.announce() == 403


def test_what_a_phone_was_given_before_it_was_set_up_anew_is_not_offered_again(client, gateway, enroll, sql, ali, send):
    phone = enroll(sims=SIMS)
    message = send(device_id=phone.device_id)
    assert len(phone.pull()) == 1
    silence(sql, phone)
    again = StrictPhone(gateway.url, sims=SIMS)
    again.register(ali.token("phone:enroll")["Authorization"].removeprefix("Bearer "))
    assert again.device_id == phone.device_id
    sql.execute("UPDATE message_queue SET offered_at = offered_at - interval '1 minute'")
    assert again.pull() == [], "nobody knows whether it left"
    waiting = client.get(f"/api/sms/{message['id']}/timeline").json()["data"]["waiting"]
    assert waiting["reason_code"] == "given_before_reinstall"
    again.report(message["message_id"], "Sent")
    assert client.get(f"/api/sms/{message['id']}").json()["data"]["status"] == "sent"
    again.close()


@pytest.mark.parametrize("reported", [None, "Processed"])
def test_a_phone_that_was_set_up_anew_cannot_say_that_nothing_left(client, enroll, send, sql, reported):
    """It calls cancelled what it does not know when it pulls, and the app before may have sent it."""
    phone = enroll()
    message = send(device_id=phone.device_id)
    (pulled,) = phone.pull()
    if reported:
        phone.report(pulled["id"], reported)
    silence(sql, phone)
    again = enroll()
    assert again.device_id == phone.device_id
    refused = client.post(f"/api/sms/{message['id']}/cancel")
    assert (refused.status_code, refused.json()["reason_code"]) == (422, "not_confirmed")
    assert again.pull() == []
    assert again.report(pulled["id"], "Pending") == 204
    assert [(offered["id"], offered["state"]) for offered in again.pull()] == [(pulled["id"], "Cancelling")], (
        "the app did know it"
    )
    assert again.report(pulled["id"], "Cancelled") == 204
    assert client.get(f"/api/sms/{message['id']}").json()["data"]["status"] == "cancelled"


def private(client, **headers):
    return client.post("/api/devices/enrollment", **headers).json()["data"]["private_token"]


def register(client, token, name="x", **body):
    headers = {"Authorization": f"Bearer {token}"}
    return client.post("/api/mobile/v1/device", json={"name": name, **body}, headers=headers)


def test_a_removed_phone_does_not_come_back_with_the_private_token_that_it_kept(client, device_number, gateway):
    token = private(client)
    phones = [StrictPhone(gateway.url, name=name) for name in ("kept", "removed")]
    for phone in phones:
        phone.register(token)
    assert client.delete(f"/api/devices/{phones[1].device_id}").status_code == 200
    assert register(client, token).status_code == 401
    assert client.get("/api/tokens").json()["data"] == []
    assert phones[0].announce() == 204, "its own token goes on"
    for phone in phones:
        phone.close()


def test_a_key_that_can_do_more_only_stops_enrolling_when_its_phone_is_removed(client, ali):
    key = ali.token("*")
    token = key["Authorization"].removeprefix("Bearer ")
    device = register(client, token).json()["id"]
    assert client.delete(f"/api/devices/{device}").status_code == 200
    assert register(client, token).status_code == 401
    assert client.get("/api/devices", headers=key).status_code == 200


def test_a_devices_key_that_ends_makes_a_private_token_that_ends_with_it(client, ali, sql):
    brief = ali.token("devices", expires_in=timedelta(minutes=1))
    token = private(client, headers=brief)
    ends = sql.execute("SELECT expires_at FROM tokens ORDER BY id DESC LIMIT 2").fetchall()
    assert ends[0] == ends[1] != (None,)
    assert register(client, token).status_code == 201
    sql.execute("UPDATE tokens SET expires_at = clock_timestamp() WHERE kind = 'key'")
    assert register(client, token).status_code == 401
    private(client)
    assert sql.execute("SELECT expires_at FROM tokens ORDER BY id DESC LIMIT 1").fetchone() == (None,)


def test_new_phones_wait_for_approval_where_the_account_wants_it(client, gateway, send, sql, ali):
    assert client.put("/api/settings", json={"approve_new_phones": True}).status_code == 200
    token = private(client)
    rogue = StrictPhone(gateway.url, name="rogue")
    rogue.register(token)
    shown = client.get(f"/api/devices/{rogue.device_id}").json()["data"]
    assert (shown["is_active"], shown["awaits_approval"]) == (False, True)
    rogue.sync()
    assert (rogue.pull(), rogue.hooks) == ([], [])
    refused = client.post(
        "/api/sms", json={"message": "x", "recipient_number": "+12025550123", "device_id": rogue.device_id}
    )
    assert refused.status_code == 422
    with rogue.stream() as stream:
        stream.until("SettingsUpdated")
        assert client.patch(f"/api/devices/{rogue.device_id}", json={"is_active": True}).status_code == 200
        stream.until("WebhooksUpdated")
    rogue.sync()
    assert rogue.hooks
    assert client.get(f"/api/devices/{rogue.device_id}").json()["data"]["awaits_approval"] is False
    # The app registers anew by itself, with the token it kept: that needs no second approval.
    silence(sql, rogue)
    rogue.register(token)
    assert client.get(f"/api/devices/{rogue.device_id}").json()["data"]["is_active"] is True
    # With another token it might be anybody that knows its name and cards.
    silence(sql, rogue)
    rogue.register(ali.token("phone:enroll")["Authorization"].removeprefix("Bearer "))
    assert client.get(f"/api/devices/{rogue.device_id}").json()["data"]["awaits_approval"] is True
    rogue.close()


def test_an_account_has_so_many_phones_and_not_more_however_many_enroll_at_once(client, configured, gateway):
    configured(MAX_DEVICES="3")
    token = private(client)

    def enroll_one(number):
        return register(client, token, name=f"phone {number}")

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(enroll_one, range(8)))
    assert sorted(answer.status_code for answer in answers) == [201] * 3 + [422] * 5
    refused = next(answer for answer in answers if answer.status_code == 422)
    assert refused.json()["message"] == "An account can have at most 3 phones; remove one first."
    assert len(client.get("/api/devices").json()["data"]) == 3


def test_a_private_token_enrolls_so_many_phones_a_minute(client, configured):
    configured(MAX_ENROLLMENTS_PER_MINUTE="2")
    token = private(client)
    answers = [register(client, token, name=str(number)) for number in range(3)]
    assert [answer.status_code for answer in answers] == [201, 201, 429]
    assert answers[2].json()["message"] == "A private token can enroll at most 2 phones a minute; try again shortly."
    assert 1 <= int(answers[2].headers["Retry-After"]) <= 60
    assert register(client, private(client)).status_code == 201
