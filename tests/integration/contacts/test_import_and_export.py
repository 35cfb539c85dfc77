"""Contacts by the hundred thousand, in and out."""

import csv
import io
import time
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from app.contacts import importing
from tests.support.waiting import until

PATH = "/api/contacts/import"


@pytest.fixture
def bring(api, ali):
    def call(contacts, headers=None, **more):
        return api.post(PATH, json={"contacts": contacts, **more}, headers=headers or ali.headers)

    return call


@pytest.fixture
def book(sql, ali):
    """Ali's contacts as they are stored, by number."""

    def read():
        rows = sql.execute("SELECT phone_number, name, email, notes FROM contacts WHERE user_id = %s", (ali.id,))
        return {number: rest for number, *rest in rows}

    return read


def counts(answer) -> tuple[int, int]:
    assert answer.status_code == 201, answer.text
    data = answer.json()["data"]
    assert answer.json()["message"] == f"Imported {data['imported']} contacts"
    assert data.keys() == {"imported", "skipped", "skipped_rows"}
    assert len(data["skipped_rows"]) == min(data["skipped"], 10_000)
    return data["imported"], data["skipped"]


def test_made_updated_and_skipped(bring, book):
    first = [
        {"name": " Ali ", "phone_number": "+998 90 123-45-67", "email": "ali@example.com", "notes": "A"},
        {"name": "Again", "phone_number": "+998901234567"},
        {"name": "No number"},
        {"phone_number": "12"},
        {"phone_number": None},
        {"phone_number": ""},
        {"phone_number": "+998901112233"},
    ]
    assert counts(bring(first)) == (2, 5)
    assert book() == {"+998901234567": ["Ali", "ali@example.com", "A"], "+998901112233": [None, None, None]}
    second = [
        {"phone_number": "+998901234567", "name": "Vali", "notes": None},
        {"phone_number": "+998901112233"},
        {"phone_number": "+998903333333", "email": "any text"},
    ]
    assert counts(bring(second)) == (3, 0)
    assert book() == {
        "+998901234567": ["Vali", "ali@example.com", None],
        "+998901112233": [None, None, None],
        "+998903333333": [None, "any text", None],
    }


def test_a_list_that_php_has_taken_something_out_of(bring, book):
    assert counts(bring({"1": {"phone_number": "+998901234567"}, "4": {"phone_number": "+998901112233"}})) == (2, 0)
    assert len(book()) == 2


def test_each_skipped_row_has_its_reason(api, ali, bring, book):
    api.put("/api/settings", json={"default_region": "US"}, headers=ali.headers)
    numbers = [
        "+998901234567",
        "\u202a+998 90 123\u201145\u201167\u202c",
        "555-0123",
        "9.98901E+11",
        "",
        "(202) 555-0123.0",
        "2025550123.0",
    ]
    answer = bring([{"phone_number": number} for number in numbers])
    assert counts(answer) == (2, 5)
    incomplete = "This is not a complete phone number of US: check its length and area code."
    assert answer.json()["data"]["skipped_rows"] == [
        {"index": 1, "reason": "Duplicate of contacts.0.", "reason_code": "duplicate"},
        {"index": 2, "reason": incomplete, "reason_code": "invalid"},
        {
            "index": 3,
            "reason": "The spreadsheet rounded this number: its last digits are lost. Format the column as text.",
            "reason_code": "invalid",
        },
        {"index": 4, "reason": "The phone number is empty.", "reason_code": "empty"},
        {"index": 5, "reason": incomplete, "reason_code": "invalid"},
    ]
    assert set(book()) == {"+998901234567", "+12025550123"}


def test_into_a_group(api, ali, other, bring, book):
    def group(headers):
        return api.post("/api/contact-groups", json={"name": "Friends"}, headers=headers).json()["data"]["id"]

    mine, theirs = group(ali.headers), group(other.headers)
    assert counts(bring([{"phone_number": "+998901234567"}])) == (1, 0)
    rows = [{"phone_number": "+998901234567"}, {"phone_number": "+998901112233"}]
    for unknown in (theirs, 10**9):
        answer = bring(rows, group_id=unknown)
        assert (answer.status_code, answer.json()["message"]) == (422, "The selected group id is invalid.")
        assert answer.json()["errors"] == {"group_id": ["The selected group id is invalid."]}
    assert len(book()) == 1
    for _ in range(2):
        assert counts(bring(rows, group_id=str(mine))) == (2, 0)
        shown = api.get(f"/api/contact-groups/{mine}", headers=ali.headers).json()["data"]
        assert shown["contacts_count"] == 2


def test_a_number_of_another_user_is_theirs(bring, book, other, sql):
    assert counts(bring([{"phone_number": "+998901234567", "name": "Theirs"}], other.headers)) == (1, 0)
    assert counts(bring([{"phone_number": "+998901234567", "name": "Mine"}])) == (1, 0)
    assert book() == {"+998901234567": ["Mine", None, None]}
    assert sql.execute("SELECT count(*) FROM contacts WHERE name = 'Theirs'").fetchone() == (1,)


@pytest.mark.parametrize(
    ("body", "errors"),
    [
        ({}, {"contacts": ["The contacts field is required."]}),
        ({"contacts": []}, {"contacts": ["The contacts field is required."]}),
        ({"contacts": {"a": 1}}, {"contacts": ["The contacts field must be an array."]}),
        ({"contacts": ["+998901234567"]}, {"contacts.0": ["The contacts.0 field must be an object."]}),
        (
            {
                "contacts": [
                    {},
                    {"name": "x" * 256, "notes": "x" * 1001},
                    {"email": "x" * 256},
                    {"phone_number": "1" * 33},
                ]
            },
            {
                "contacts.1.name": ["The contacts.1.name field must not be greater than 255 characters."],
                "contacts.1.notes": ["The contacts.1.notes field must not be greater than 1000 characters."],
                "contacts.2.email": ["The contacts.2.email field must not be greater than 255 characters."],
                "contacts.3.phone_number": [
                    "The contacts.3.phone number field must not be greater than 32 characters."
                ],
            },
        ),
        ({"contacts": [{"name": 5}]}, {"contacts.0.name": ["The contacts.0.name field must be a string."]}),
        ({"contacts": [{}], "group_id": "x"}, {"group_id": ["The group id field must be an integer."]}),
        (
            {"contacts": [{}] * 100_001},
            {"contacts": ["The contacts field must not have more than 100000 items."]},
        ),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_is_wrong_is_named(api, ali, body, errors):
    answer = api.post(PATH, json=body, headers=ali.headers)
    assert (answer.status_code, answer.json()["errors"]) == (422, errors)


def test_a_hundred_thousand_in_seconds(api, ali, bring):
    group = api.post("/api/contact-groups", json={"name": "All"}, headers=ali.headers).json()["data"]["id"]
    rows = [{"name": f"Name {n}", "phone_number": f"+99890{n:07}", "notes": "x"} for n in range(100_000)]
    for name in ("Name", "New name"):
        for row in rows[::2]:
            row["name"] = name
        began = time.monotonic()
        assert counts(bring(rows, group_id=group)) == (100_000, 0)
        assert time.monotonic() - began < 60
    listed = api.get("/api/contacts", params={"group_id": group, "search": "new name"}, headers=ali.headers)
    assert listed.json()["data"]["total"] == 50_000


def test_statistics_of_emptied_contacts_do_not_make_an_import_slow(bring, sql, monkeypatch):
    """In the planner's eyes there is no contact, and none of the rows has a name: to compare each with each costs what
    anything costs.
    """
    monkeypatch.setattr(importing, "_PREPARE", [one.replace("60s", "10s") for one in importing._PREPARE])
    contacts = [{"phone_number": f"+99890{number:07d}"} for number in range(50_000)]
    assert counts(bring(contacts)) == (50_000, 0)
    sql.execute("DELETE FROM contacts")
    sql.execute("ANALYZE contacts")
    assert counts(bring(contacts)) == (50_000, 0)


def test_two_at_once_in_opposite_order(bring, book):
    rows = [{"phone_number": f"+99890{n:07}", "name": "x"} for n in range(3000)]
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(bring, [rows, rows[::-1], rows[1000:], rows[::-2]]))
    assert [counts(answer)[0] for answer in answers] == [3000, 3000, 2000, 1500]
    assert len(book()) == 3000


def test_into_a_group_while_a_contact_is_deleted(api, ali, bring, book, sql):
    """The import has found both contacts; one of them is gone before it puts them into the group."""
    group = api.post("/api/contact-groups", json={"name": "Friends"}, headers=ali.headers).json()["data"]["id"]
    rows = [{"phone_number": "+998901234567"}, {"phone_number": "+998901112233", "name": "Old"}]
    assert counts(bring(rows)) == (2, 0)
    rows[1]["name"] = "New"

    def waits(words):
        waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE %s"
        return sql.execute(waiting, (f"%{words}%",)).fetchone() == (1,)

    def another():
        return psycopg.connect(sql.info.dsn, password=sql.info.password)

    with ThreadPoolExecutor(1) as pool, another() as deleting, another() as holding:
        holding.execute("SELECT FROM contacts WHERE name = 'Old' FOR UPDATE")
        answer = pool.submit(bring, rows, group_id=group)
        until(lambda: waits("UPDATE contacts"))
        deleting.execute("DELETE FROM contacts WHERE phone_number = '+998901234567'")
        holding.commit()
        until(lambda: waits("contact_group_members"))
        deleting.commit()
        assert counts(answer.result()) == (2, 0)
    assert book() == {"+998901112233": ["New", None, None]}
    shown = api.get(f"/api/contact-groups/{group}/contacts", headers=ali.headers).json()["data"]["data"]
    assert [contact["name"] for contact in shown] == ["New"]


def test_export_is_what_an_import_takes(api, ali, other, bring, book):
    bring([{"phone_number": "+15005550006", "name": "Not Ali's"}], other.headers)
    rows = [
        {
            "phone_number": "+998901234567",
            "name": 'Quote " and, comma',
            "email": "a@example.com",
            "notes": "two\nlines",
            "time_zone": "Asia/Tashkent",
        },
        {"phone_number": "+998901112233", "name": "=1+1", "email": "-x", "notes": "@here"},
        {"phone_number": "+998903333333"},
    ]
    bring(rows)
    answer = api.get("/api/contacts/export", headers=ali.headers)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    assert answer.headers["content-disposition"] == 'attachment; filename="contacts.csv"'
    read = list(csv.DictReader(io.StringIO(answer.text, newline="")))
    # The number is quoted as it is, text that a spreadsheet would run is disarmed.
    assert read == [
        rows[0],
        {"phone_number": "+998901112233", "name": "'=1+1", "email": "'-x", "notes": "'@here", "time_zone": ""},
        {"phone_number": "+998903333333", "name": "", "email": "", "notes": "", "time_zone": ""},
    ]
    assert counts(bring(read)) == (3, 0)
    marked = api.get("/api/contacts/export", params={"bom": "1"}, headers=ali.headers)
    assert marked.content == b"\xef\xbb\xbf" + answer.content
    some = api.get("/api/contacts/export", params={"search": "quote"}, headers=ali.headers)
    assert len(list(csv.DictReader(io.StringIO(some.text, newline="")))) == 1


def test_time_zones_come_in_and_go_out(api, ali, bring, sql):
    def zones():
        return dict(
            sql.execute("SELECT phone_number, time_zone FROM contacts WHERE user_id = %s", (ali.id,)).fetchall()
        )

    numbers = [f"+99890123456{n}" for n in range(3)]
    first = [{"phone_number": number, "time_zone": "Asia/Tashkent"} for number in numbers]
    assert counts(bring(first)) == (3, 0)
    second = [
        {"phone_number": numbers[0], "time_zone": " Europe/Paris "},
        {"phone_number": numbers[1], "time_zone": None},
        {"phone_number": numbers[2]},
    ]
    assert counts(bring(second)) == (3, 0)
    assert zones() == dict(zip(numbers, ("Europe/Paris", None, "Asia/Tashkent"), strict=True))
    for wrong, sentence in (
        ("Paris", "The contacts.1.time zone field must be a time zone like Asia/Tashkent."),
        ("x" * 65, "The contacts.1.time zone field must not be greater than 64 characters."),
        (5, "The contacts.1.time zone field must be a string."),
    ):
        answer = bring([{"phone_number": numbers[1]}, {"phone_number": numbers[0], "time_zone": wrong}])
        assert (answer.status_code, answer.json()["errors"]) == (422, {"contacts.1.time_zone": [sentence]})
    exported = api.get("/api/contacts/export", headers=ali.headers).text
    assert [row["time_zone"] for row in csv.DictReader(io.StringIO(exported))] == ["Europe/Paris", "", "Asia/Tashkent"]


def test_export_of_many(api, ali, bring):
    bring([{"phone_number": f"+99890{n:07}"} for n in range(5001)])
    lines = api.get("/api/contacts/export", headers=ali.headers).text.splitlines()
    assert len(set(lines)) == 5002
