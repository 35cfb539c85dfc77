"""What a received keyword does."""

import itertools

import pytest

SENDER = "+998901112233"


@pytest.fixture
def phone(phone):
    phone.sync()
    return phone


@pytest.fixture
def hear(phone):
    """Let the phone receive a text; the same one again is another SMS."""
    numbers = itertools.count()

    def receive(text, sender=SENDER, **fields):
        assert phone.receive(sender, text, messageId=str(next(numbers)), **fields) == 200

    return receive


@pytest.fixture
def settings(client):
    def change(**values):
        answer = client.put("/api/opt-outs/settings", json=values)
        assert answer.status_code == 200, answer.text
        return answer.json()["data"]

    return change


@pytest.fixture
def out(client):
    def numbers():
        return [each["phone_number"] for each in client.get("/api/opt-outs").json()["data"]["data"]]

    return numbers


def test_stop_opts_its_sender_out_with_the_message_that_says_so(client, phone, out, hear):
    hear(" Stop! ")
    (made,) = client.get("/api/opt-outs").json()["data"]["data"]
    (message,) = client.get("/api/sms/inbox").json()["data"]["data"]
    told = {key: made[key] for key in ("phone_number", "by", "keyword", "message_id", "note")}
    assert told == {
        "phone_number": SENDER,
        "by": "STOP",
        "keyword": "Stop!",
        "message_id": message["id"],
        "note": None,
    }
    hear("STOP")
    hear("stop by tomorrow", "+998901112234")
    assert out() == [SENDER]


def test_it_counts_where_nothing_is_stored(client, phone, out, hear):
    client.put("/api/settings", json={"keep_inbound": False})
    hear("отписаться")
    assert out() == [SENDER]
    assert client.get("/api/opt-outs").json()["data"]["data"][0]["message_id"] is None


def test_a_number_without_its_country_is_of_the_accounts_region_else_of_the_phones(client, phone, out, hear):
    hear("stop", "6505551212", recipient="+12025550100")
    assert out() == [], "the phone's number was not known yet"
    hear("stop", "6505551212")
    assert out() == ["+16505551212"]
    client.put("/api/settings", json={"default_region": "UZ"})
    hear("stop", "90 111 22 33")
    assert out() == [SENDER, "+16505551212"]
    hear("stop", "Beeline")
    hear("stop", "7726")
    assert len(out()) == 2, "to names and short numbers nothing can be sent"


def test_start_takes_it_back_whoever_said_it(client, phone, out, hear):
    client.post("/api/opt-outs", json={"phone_number": SENDER})
    hear("yes I do")
    assert out() == [SENDER]
    hear("YES")
    assert out() == []
    hear("start")
    assert out() == []


def test_of_several_words_in_one_post_the_last_counts(enroll, out):
    newer = enroll(version="1.75.0", name="newer")
    newer.sync()

    def received(number, text):
        return {"message": text, "sender": SENDER, "messageId": str(number), "receivedAt": newer.now(number - 9)}

    items = [received(3, "help"), received(1, "start"), received(2, "stop"), received(0, "stop")]
    assert newer.hook("sms:batch:received", {"messages": items}) == 200
    assert out() == [SENDER]


def test_words_can_be_added_replaced_and_switched_off(client, phone, settings, out, hear):
    assert client.get("/api/opt-outs/settings").json()["data"] == {
        "keywords": True,
        "opt_out_words": [],
        "opt_in_words": None,
        "opt_out_reply": None,
        "opt_in_reply": None,
        "help_reply": None,
        "events": False,
    }
    settings(opt_out_words=["Basta ya"], opt_in_words=["Otra vez"])
    hear("¡Basta ya!")
    assert out() == [SENDER]
    hear("start")
    assert out() == [SENDER]
    hear("otra vez")
    assert out() == []
    settings(keywords=False)
    hear("stop")
    hear("basta ya")
    assert out() == []
    assert settings(opt_in_words=None)["opt_out_words"] == ["Basta ya"], "what is not named stays"


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"opt_out_words": ["?!"]}, "opt_out_words.0"),
        ({"opt_out_words": ["x" * 81]}, "opt_out_words.0"),
        ({"opt_out_words": ["word"] * 101}, "opt_out_words"),
        ({"opt_out_words": ["Basta"], "opt_in_words": ["basta!"]}, "opt_in_words"),
        ({"opt_out_reply": "STOP"}, "opt_out_reply"),
        ({"opt_out_words": ["Bye"], "help_reply": "bye"}, "help_reply"),
        ({"opt_in_reply": "x" * 481}, "opt_in_reply"),
        ({"keywords": None}, "keywords"),
    ],
)
def test_settings_that_make_no_sense_are_refused(client, values, field):
    answer = client.put("/api/opt-outs/settings", json=values)
    assert answer.status_code == 422, answer.text
    assert list(answer.json()["errors"]) == [field]
    assert client.get("/api/opt-outs/settings").json()["data"]["opt_out_words"] == []


def texts(phone):
    return [message["message"] for message in phone.pull()]


def test_an_answer_is_sent_once_a_day_and_only_where_something_changed(client, phone, settings, sql, hear):
    settings(opt_out_reply="You are out.", opt_in_reply="You are in.", help_reply="Call us.")
    hear("start")
    assert texts(phone) == [], "nothing changed"
    hear("stop", simNumber=2)
    (answer,) = phone.pull()
    assert (answer["message"], answer["phoneNumbers"], answer["simNumber"]) == ("You are out.", [SENDER], 2)
    phone.report(answer["id"], "Sent")
    assert client.get("/api/account").json()["data"]["usage"]["total_sms"] == 1
    for word in ("start", "stop", "help", "stop"):
        hear(word)
    assert texts(phone) == [], "answered within a day, whatever it is"
    sql.execute("UPDATE opt_out_replies SET sent_at = sent_at - interval '24 hours'")
    hear("stop")
    assert texts(phone) == [], "it had opted out already"
    hear("help")
    assert texts(phone) == ["Call us."], "who has opted out may ask"


def test_two_gateways_do_not_talk_to_each_other_for_ever(client, phone, settings, api, other, enroll, sql, hear):
    """Each answers keywords with words that are keywords to the other one."""
    settings(opt_out_reply="Hola", opt_in_words=["Adios"], help_reply="Hola")
    theirs = enroll(other, name="theirs")
    theirs.sync()
    answer = api.put(
        "/api/opt-outs/settings",
        json={"opt_out_words": ["Hola"], "opt_out_reply": "STOP", "opt_in_words": []},
        headers=other.headers,
    )
    assert answer.json()["errors"] == {"opt_out_reply": ["The opt out reply field must not be a keyword itself."]}
    replies = {"opt_out_words": ["Hola"], "opt_out_reply": "Adios", "opt_in_words": []}
    assert api.put("/api/opt-outs/settings", json=replies, headers=other.headers).status_code == 200
    ours_number, their_number = "+998901110001", "+998901110002"
    text, sent = "STOP", 0
    while text is not None and sent < 10:
        hear(text, their_number)
        answer = next(iter(texts(phone)), None)
        text = None
        if answer is not None:
            sent += 1
            theirs.receive(ours_number, answer)
            text = next(iter(texts(theirs)), None)
    assert sent == 1


def test_events_are_told_where_the_account_asks_for_them(client, phone, settings, sql, hear):
    client.put("/api/webhooks", json={"webhook_url_incoming": "https://example.com/in"})
    hear("stop")
    settings(events=True)
    hear("start")
    hear("stop")
    hear("stop")
    rows = sql.execute("SELECT event, body::json->'data' FROM webhook_deliveries ORDER BY id").fetchall()
    assert [event for event, _ in rows] == [
        "incoming",
        "incoming",
        "opted_in",
        "incoming",
        "opted_out",
        "incoming",
    ]
    told = rows[4][1]
    (made,) = client.get("/api/opt-outs").json()["data"]["data"]
    assert told == made
