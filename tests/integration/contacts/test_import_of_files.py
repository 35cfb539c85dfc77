"""Contacts from CSV and XLSX files, as the body and in a form."""

from pathlib import Path

import pytest

from app.core.bodies import XLSX_TYPE

PATH = "/api/contacts/import"
DATA = Path(__file__).parents[2] / "data" / "files"


@pytest.fixture
def bring(api, ali):
    api.put("/api/settings", json={"default_region": "UZ"}, headers=ali.headers)

    def call(content, kind="text/csv", **params):
        content = content.encode() if isinstance(content, str) else content
        return api.post(PATH, content=content, params=params, headers=ali.headers | {"Content-Type": kind})

    return call


@pytest.fixture
def book(sql, ali):
    def read():
        rows = sql.execute("SELECT phone_number, name, email, notes FROM contacts WHERE user_id = %s", (ali.id,))
        return {number: rest for number, *rest in rows}

    return read


def told(answer) -> dict:
    assert answer.status_code == 201, answer.text
    data = answer.json()["data"]
    assert answer.json()["message"] == f"Imported {data['imported']} contacts"
    return data


NO_FILE = '--b\r\nContent-Disposition: form-data; name="file"\r\n\r\nx\r\n--b--'
CSV = (
    "ФИО;Телефон;E-mail;Примечание\r\n"
    "Али;998901112233.0;ali@example.com;утром\r\n"
    "Вали;90 111-22-34;;\r\n"
    "Никто;9.98901E+11;;\r\n"
    "Снова;'+998901112233;;\r\n"
    f"Длинный;901112235;;{'x' * 1001}\r\n"
    ";;;\r\n"
)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1251"])
def test_a_csv_file(bring, book, encoding):
    assert told(bring(CSV.encode(encoding))) == {
        "imported": 2,
        "skipped": 3,
        "skipped_rows": [
            {
                "index": 4,
                "reason": "The spreadsheet rounded this number: its last digits are lost. Format the column as text.",
                "reason_code": "invalid",
            },
            {"index": 5, "reason": "Duplicate of line 2.", "reason_code": "duplicate"},
            {"index": 6, "reason": "The notes has more than 1000 characters.", "reason_code": "too_long"},
        ],
    }
    assert book() == {
        "+998901112233": ["Али", "ali@example.com", "утром"],
        "+998901112234": ["Вали", None, None],
    }


def test_a_workbook_whatever_it_is_called(bring, book):
    content = (DATA / "oddities.xlsx").read_bytes()
    for kind in (XLSX_TYPE, "application/vnd.ms-excel", "text/csv"):
        assert told(bring(content, kind))["imported"] == 2
    assert book() == {"+998901112233": ["Иван", None, None], "+998901112234": ["Оля", None, None]}


def test_a_form_as_a_browser_sends_it(api, ali, bring, book):
    group = api.post("/api/contact-groups", json={"name": "Friends"}, headers=ali.headers).json()["data"]["id"]
    for name in ("windows-1251.csv", "oddities.xlsx"):
        files = {"file": (name, (DATA / name).read_bytes(), "application/octet-stream")}
        assert told(api.post(PATH, files=files, data={"group_id": str(group)}, headers=ali.headers))["imported"] == 2
        assert told(api.post(PATH, files=files, params={"group_id": group}, headers=ali.headers))["imported"] == 2
    shown = api.get(f"/api/contact-groups/{group}", headers=ali.headers).json()["data"]
    assert shown["contacts_count"] == len(book()) == 2
    large = "phone\n" + "".join(f"+99890{number:07}\n" for number in range(90_000))
    assert told(api.post(PATH, files={"file": large}, headers=ali.headers))["imported"] == 90_000


def test_columns_and_group_in_the_query(api, ali, bring, book):
    content = "a,b,c,d\n901112233,901112234,Ali,x\n"
    named = {"phone_number_column": "b", "name_column": "C", "notes_column": "4"}
    assert told(bring(content, **named))["imported"] == 1
    assert book() == {"+998901112234": ["Ali", None, "x"]}
    for parameter in ("phone_number_column", "name_column", "email_column", "notes_column", "time_zone_column"):
        answer = bring(content, **{parameter: "z"})
        assert answer.status_code == 422
        spoken = parameter.replace("_", " ")
        assert answer.json()["errors"] == {parameter: [f"The {spoken} is none of the file's columns: a, b, c, d."]}
    for wrong, sentence in (
        ("x", "The group id field must be an integer."),
        (10**9, "The selected group id is invalid."),
    ):
        answer = bring(content, group_id=wrong)
        assert (answer.status_code, answer.json()["errors"]) == (422, {"group_id": [sentence]})
    assert len(book()) == 1


@pytest.mark.parametrize("header", ["time_zone", "Time zone", "Часовой пояс", "vaqt mintaqasi", "TZ"])
def test_a_column_of_time_zones(bring, sql, ali, header):
    told(bring(f"phone,Zone,{header}\n901112233,North,Asia/Tashkent\n901112234,South,\n"))
    told(bring(f"phone,{header}\n901112233,\n901112234,Europe/Paris\n"))
    wrong = told(bring("phone,where\n901112233,GMT+5\n901112234,Asia/Almaty\n", time_zone_column="where"))
    assert wrong["skipped_rows"] == [
        {"index": 2, "reason": "GMT+5 is not a time zone like Asia/Tashkent.", "reason_code": "unknown_zone"}
    ]
    found = sql.execute("SELECT phone_number, time_zone FROM contacts WHERE user_id = %s", (ali.id,)).fetchall()
    assert dict(found) == {"+998901112233": "Asia/Tashkent", "+998901112234": "Asia/Almaty"}


def test_a_blank_cell_leaves_what_is_there(bring, book):
    told(bring("phone,name,notes\n901112233,Ali,x\n"))
    told(bring("phone,name,notes\n901112233,,y\n"))
    assert book() == {"+998901112233": ["Ali", None, "y"]}


def test_an_export_comes_back(api, ali, bring, book):
    rows = [{"phone_number": "+998901112233", "name": "=1+1", "notes": "two\nlines; and, more", "email": "a@b.c"}]
    assert api.post(PATH, json={"contacts": rows}, headers=ali.headers).status_code == 201
    before = book()
    exported = api.get("/api/contacts/export", headers=ali.headers, params={"bom": 1}).content
    assert told(bring(exported))["imported"] == 1
    assert book() == before


@pytest.mark.parametrize(
    ("content", "kind", "field", "sentence"),
    [
        ("", "text/csv", "file", "The file has no rows."),
        ("name,city\nAli,Tashkent\n", "text/csv", "file", "No column of phone numbers was found in the file."),
        ("phone\n" + "901112233\n" * 100_001, "text/csv", "file", "The file must not have more than 100000 rows."),
        ("PK\x03\x04 no", XLSX_TYPE, "file", "The file is not a readable XLSX workbook."),
        (NO_FILE, "multipart/form-data; boundary=b", "file", "The file field must be one file."),
        ('name="file"', "multipart/form-data", "body", "The request body is not a valid form."),
    ],
    ids=lambda value: str(value)[:20],
)
def test_what_is_wrong_is_named(bring, book, content, kind, field, sentence):
    answer = bring(content, kind)
    assert answer.status_code == 422, answer.text
    assert list(answer.json()["errors"]) == [field]
    assert answer.json()["message"].startswith(sentence)
    assert book() == {}


def test_who_asks_is_judged_before_the_file_is_read(api, ali, bring):
    file = b"phone\n" + b"901112233\n" * 10_000
    for headers in ({}, {"Authorization": "Bearer 1|wrong"}):
        answer = api.post(PATH, content=file, headers=headers | {"Content-Type": "text/csv"})
        assert (answer.status_code, answer.json()["message"]) == (401, "Unauthenticated.")
    lacking = ali.token("sms:send") | {"Content-Type": "text/csv"}
    assert api.post(PATH, content=file, headers=lacking).status_code == 403
    assert bring(NO_FILE.encode(), "multipart/form-data; boundary=b").status_code == 422
    answer = bring("x", "application/pdf")
    assert (answer.status_code, answer.json()["message"]) == (
        415,
        "The request body must be JSON, a form, CSV or XLSX.",
    )
