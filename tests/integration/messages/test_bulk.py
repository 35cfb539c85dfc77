"""Bulk sends: recipients, groups, names, prices, refusals."""

import time
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from app.core.settings import get_settings
from tests.support.guards import refuses_strangers
from tests.support.memory import memory_below
from tests.support.messages_of import add_phone

PATH = "/api/sms/bulk"
INVALID = "The recipients.{} field must be a valid phone number, with + and the country code."


@pytest.fixture
def phone(ali, sql) -> int:
    return add_phone(sql, ali)


@pytest.fixture
def bulk(api, ali):
    def call(**body):
        return api.post(PATH, json={"message": "Hello", **body}, headers=ali.headers)

    return call


@pytest.fixture
def group(api, ali):
    """Make a group of Ali's with contacts in it; its id."""

    def make(*contacts: tuple[str, str | None], headers=None) -> int:
        headers = headers or ali.headers
        made = api.post("/api/contact-groups", json={"name": "Friends"}, headers=headers).json()["data"]["id"]
        rows = [{"phone_number": number, "name": name} for number, name in contacts]
        if rows:
            body = {"contacts": rows, "group_id": made}
            assert api.post("/api/contacts/import", json=body, headers=headers).status_code == 201
        return made

    return make


def numbers(answer) -> list[str]:
    assert answer.status_code == 201, answer.text
    return [item["recipient_number"] for item in answer.json()["data"]]


def texts(sql) -> list[str]:
    return [row[0] for row in sql.execute("SELECT message FROM messages ORDER BY id")]


def test_who_may_send(api, ali, phone, configured):
    body = {"message": "x", "recipients": ["+998901234567"]}
    refuses_strangers(api, ali, "POST", PATH, "sms:send", body=body)
    configured(FREE_FEATURES="api,webhooks")
    answer = api.post(PATH, json=body, headers=ali.headers)
    assert (answer.status_code, answer.json()) == (
        403,
        {"success": False, "message": "This feature requires Premium.", "upgrade": True},
    )
    get_settings.cache_clear()


def test_the_answer(bulk, phone, sql):
    answer = bulk(
        recipients=["+998 90 123-45-67", {"number": "+998901112233", "name": "Ali"}], price="2.5", my_id="c-1"
    )
    assert answer.status_code == 201
    body = answer.json()
    assert (body["success"], body["message"]) == (True, "Bulk SMS queued for sending")
    first, second = body["data"]
    assert first.pop("id") < second["id"]
    assert len(first.pop("message_id")) == 36
    assert first == {
        "recipient_number": "+998901234567",
        "status": "pending",
        "price": 2.5,
        "is_charged": False,
        "direction": "outbound",
        "my_id": "c-1",
    }
    assert second["recipient_number"] == "+998901112233"
    assert sql.execute("SELECT count(*), min(lane) FROM message_queue").fetchone() == (2, 1)


def test_each_number_once_at_its_first_place(bulk, phone):
    asked = ["+998901234567", "+998901112233", "+998 90 1234567", {"number": "+998901112233"}]
    assert numbers(bulk(recipients=asked)) == ["+998901234567", "+998901112233"]
    assert len(numbers(bulk(recipients=asked, allow_duplicates=True))) == 4
    assert len(numbers(bulk(recipients=asked, allow_duplicates="0"))) == 2


def test_a_list_that_php_has_taken_something_out_of(bulk, phone):
    """`array_unique` and `array_filter` leave the keys of the others, and `json_encode` makes an object of that."""
    asked = {"0": "+998901234567", "2": {"number": "+998901112233", "name": "Ali"}, "11": "+998901234568"}
    assert numbers(bulk(recipients=asked)) == ["+998901234567", "+998901112233", "+998901234568"]


def test_names_come_from_the_object_else_the_contact_else_nothing(api, ali, bulk, phone, group, sql):
    group(("+998901111111", "Contact"), ("+998902222222", "Other name"), ("+998903333333", None))
    asked = [
        "+998901111111",
        {"number": "+998902222222", "name": "Object"},
        "+998903333333",
        {"number": "+998904444444", "name": " "},
    ]
    assert len(numbers(bulk(message="Dear {name}!", recipients=asked))) == 4
    assert texts(sql) == ["Dear Contact!", "Dear Object!", "Dear !", "Dear !"]
    single = {"message": "Dear {name}", "recipient_number": "+998901111111"}
    assert api.post("/api/sms", json=single, headers=ali.headers).status_code == 201
    assert texts(sql)[-1] == "Dear {name}"


def test_a_text_too_long_once_it_is_filled(bulk, phone, sql):
    answer = bulk(message="{name}" + "x" * 1590, recipients=[{"number": "+998901234567", "name": "A" * 11}])
    sentence = "The message field must not be greater than 1600 characters"
    told = f"{sentence}; with the name of +998901234567 it has 1601."
    assert (answer.status_code, answer.json()["errors"]) == (422, {"message": [told]})
    assert texts(sql) == []


@pytest.mark.parametrize("fields", [None, {}])
def test_texts_that_would_fill_the_memory(bulk, phone, sql, fields):
    """Of two megabytes came half a gigabyte, and of the largest body eight of them."""
    recipients = [{"number": f"+99890123456{number}", "name": "A" * 1_000_000} for number in range(2)]
    with memory_below(100):
        answer = bulk(message="{name}" * 266, recipients=recipients, fields=fields)
    assert answer.json()["message"].startswith("The message field must not be greater than 1600 characters; with")
    assert texts(sql) == []


def test_a_text_that_is_empty_once_it_is_filled(bulk, phone, sql):
    answer = bulk(message=" {name} ", recipients=[{"number": "+998901234567", "name": "Ann"}, "+998901112233"])
    sentence = "The message field is required; +998901112233 has no name to fill it."
    assert (answer.status_code, answer.json()["errors"]) == (422, {"message": [sentence]})
    assert texts(sql) == []


def test_groups_beside_recipients(bulk, phone, group, sql):
    first = group(("+998901111111", "One"), ("+998902222222", "Two"))
    second = group(("+998902222222", "Two"), ("+998903333333", "Three"))
    empty = group()
    answer = bulk(
        message="Hi {name}",
        recipients=[{"number": "+998903333333", "name": "First"}],
        group_ids=[first, second, str(first), empty],
    )
    assert numbers(answer) == ["+998903333333", "+998901111111", "+998902222222"]
    assert texts(sql) == ["Hi First", "Hi One", "Hi Two"]
    assert len(numbers(bulk(group_ids=[first, second], allow_duplicates=True))) == 3
    assert numbers(bulk(group_ids=[first])) == ["+998901111111", "+998902222222"]


def test_nobody_in_the_end(bulk, phone, group, sql):
    empty = group()
    no_number, no_contacts = "None of the recipients is a valid phone number.", "The selected groups have no contacts."
    for body, errors in (
        ({"recipients": ["x", "12"], "skip_invalid": True}, {"recipients": [no_number]}),
        ({"group_ids": [empty]}, {"group_ids": [no_contacts]}),
        ({"recipients": [], "group_ids": [empty]}, {"group_ids": [no_contacts]}),
        (
            {"recipients": ["x"], "group_ids": [empty], "skip_invalid": True},
            {"recipients": [no_number], "group_ids": [no_contacts]},
        ),
    ):
        answer = bulk(**body)
        assert (answer.status_code, answer.json()["errors"]) == (422, errors)
    assert texts(sql) == []


def test_groups_of_others_and_unknown_ones(api, bulk, phone, group, other):
    mine, theirs = group(("+998901111111", None)), group(headers=other.headers)
    answer = bulk(group_ids=[mine, theirs, 10**9])
    assert (answer.status_code, answer.json()["errors"]) == (
        422,
        {
            "group_ids.1": ["The selected group ids.1 is invalid."],
            "group_ids.2": ["The selected group ids.2 is invalid."],
        },
    )


def test_invalid_recipients_by_their_place(bulk, phone, sql):
    asked = ["+998901234567", "12", {"number": "x"}, {}, None, 5, {"number": "+998901112233", "name": 7}, ["+9989"]]
    answer = bulk(recipients=asked)
    assert (answer.status_code, answer.json()["errors"]) == (
        422,
        {
            "recipients.1": [INVALID.format("1")],
            "recipients.2.number": [INVALID.format("2.number")],
            "recipients.3.number": ["The recipients.3.number field is required."],
            "recipients.4": ["The recipients.4 field is required."],
            "recipients.5": ["The recipients.5 field must be a string."],
            "recipients.6.name": ["The recipients.6.name field must be a string."],
            "recipients.7": ["The recipients.7 field must be a string."],
        },
    )
    assert answer.json()["message"] == INVALID.format("1") + " (and 6 more errors)"
    many = bulk(recipients=["12"] * 250).json()
    assert (len(many["errors"]), many["message"]) == (100, INVALID.format("0") + " (and 249 more errors)")
    assert texts(sql) == []
    skipping = bulk(recipients=asked, skip_invalid="1")
    assert numbers(skipping) == ["+998901234567"]
    assert [(item["index"], type(item["reason"])) for item in skipping.json()["skipped"]] == [
        (place, str) for place in range(1, 8)
    ]


@pytest.mark.parametrize(
    ("body", "errors"),
    [
        ({}, {"recipients": ["The recipients field is required."]}),
        (
            {"message": ""},
            {"message": ["The message field is required."], "recipients": ["The recipients field is required."]},
        ),
        ({"recipients": [], "group_ids": []}, {"recipients": ["The recipients field is required."]}),
        ({"recipients": "+998901234567"}, {"recipients": ["The recipients field must be an array."]}),
        ({"recipients": {"number": "+998901234567"}}, {"recipients": ["The recipients field must be an array."]}),
        ({"recipients": ["+998901234567"], "message": " "}, {"message": ["The message field is required."]}),
        ({"group_ids": ["x"]}, {"group_ids.0": ["The group ids.0 field must be an integer."]}),
        (
            {"recipients": ["+998901234567"], "skip_invalid": "yes"},
            {"skip_invalid": ["The skip invalid field must be true or false."]},
        ),
        (
            {"recipients": ["+998901234567"], "allow_duplicates": 2},
            {"allow_duplicates": ["The allow duplicates field must be true or false."]},
        ),
        ({"recipients": ["+998901234567"], "price": -1}, {"price": ["The price field must be at least 0."]}),
        (
            {"recipients": ["+998901234567"], "device_id": "nobody"},
            {"device_id": ["The selected device id is invalid."]},
        ),
        (
            {"recipients": ["+998901234567"] * 100_001},
            {"recipients": ["The recipients field must not have more than 100000 items."]},
        ),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_is_wrong_is_named(bulk, phone, body, errors):
    answer = bulk(**body)
    assert (answer.status_code, answer.json()["errors"]) == (422, errors)


def test_a_callback_for_each_message(api, ali, bulk, phone, sql, configured):
    url = "https://example.com/sms/callback"
    assert bulk(recipients=["+998901234567", "+998901112233"], callback_url=url).status_code == 201
    assert sql.execute("SELECT DISTINCT callback_url FROM messages").fetchall() == [(url,)]
    wrong = bulk(recipients=["+998901234567"], callback_url="http://127.1/")
    assert (wrong.status_code, list(wrong.json()["errors"])) == (422, ["callback_url"])
    configured(FREE_FEATURES="api,bulk")
    refused = bulk(recipients=["+998901234567"], callback_url=url)
    assert (refused.status_code, refused.json()["upgrade"]) == (403, True)


def test_no_active_phone(bulk, ali, sql):
    add_phone(sql, ali, active=False)
    answer = bulk(recipients=["+998901234567"])
    assert (answer.status_code, answer.json()) == (
        422,
        {"success": False, "message": "No active device available"},
    )


def test_national_numbers_where_the_user_has_a_region(api, ali, bulk, phone):
    assert bulk(recipients=["90 123 45 67"]).status_code == 422
    api.put("/api/settings", json={"default_region": "UZ"}, headers=ali.headers)
    assert numbers(bulk(recipients=["90 123 45 67", "+15005550006"])) == ["+998901234567", "+15005550006"]


def test_a_hundred_thousand_and_no_more(api, ali, bulk, phone, group, sql):
    asked = [f"+99890{n:07}" for n in range(100_000)]
    began = time.monotonic()
    answer = bulk(recipients=asked, message="Dear {name}")
    assert numbers(answer) == asked
    assert time.monotonic() - began < 60
    assert sql.execute("SELECT count(*), count(DISTINCT message_id) FROM messages").fetchone() == (100_000, 100_000)
    account = api.get("/api/account", headers=ali.headers).json()["data"]
    assert (account["usage"]["total_sms"], account["usage"]["total_spent"]) == (100_000, 10_000_000)
    one_more = bulk(recipients=asked, group_ids=[group(("+15005550006", None))])
    assert one_more.json()["errors"] == {"recipients": ["The recipients field must not have more than 100000 items."]}


def test_a_write_that_is_cut_off_leaves_nothing_and_says_to_come_back(bulk, phone, sql, database):
    # The COPY waits for the table, so that it is there to be cancelled, as a time-out would.
    with psycopg.connect(database.postgres.url) as lock, ThreadPoolExecutor(1) as pool:
        lock.execute("LOCK TABLE messages IN SHARE MODE")
        asked = pool.submit(bulk, recipients=["+998901234567"])
        while not sql.execute(
            "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE query LIKE 'COPY messages%' AND state = 'active'"
        ).fetchall():
            assert not asked.done()
        answer = asked.result()
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")
    assert texts(sql) == []


def test_groups_that_overlap_are_counted_by_their_people(api, ali, bulk, phone, sql):
    """Two groups with the same 60,000 people and one of one more are 60,001 recipients."""
    sql.execute(
        "INSERT INTO contacts (user_id, phone_number) SELECT %s, '+99890' || lpad(i::text, 7, '0')"
        " FROM generate_series(0, 60000) i",
        (ali.id,),
    )
    made = [
        api.post("/api/contact-groups", json={"name": "x"}, headers=ali.headers).json()["data"]["id"] for _ in "abc"
    ]
    sql.execute(
        "INSERT INTO contact_group_members SELECT g, c.id FROM contacts c, unnest(%s::bigint[]) g"
        " WHERE phone_number < '+998900060000'",
        (made[:2],),
    )
    sql.execute(
        "INSERT INTO contact_group_members SELECT %s, id FROM contacts WHERE phone_number = '+998900060000'", (made[2],)
    )
    answer = bulk(group_ids=made)
    assert (len(numbers(answer)), numbers(answer)[-1]) == (60_001, "+998900060000")
