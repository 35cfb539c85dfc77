"""Recipients of a campaign: from JSON, CSV, XLSX and groups; what is left out, and what is asked before a start."""

import csv
import io
import threading
from datetime import datetime, timedelta
from pathlib import Path

import psycopg
import pytest

from app.campaigns import adding, listing, supervising
from app.campaigns.sources import Row, Source
from app.core.bodies import XLSX_TYPE
from app.core.database import transaction
from app.core.errors import Refused
from app.messages.states import Stage
from tests.support.guards import is_not_found, refuses_strangers
from tests.support.memory import memory_below

DATA = Path(__file__).parents[2] / "data" / "files"


@pytest.fixture
def draft(api, ali):
    """Make a draft; its address."""
    api.put("/api/settings", json={"default_region": "UZ"}, headers=ali.headers)

    def make(message="Hello {name|there}", **fields):
        body = {"name": "Spring", "message": message, **fields}
        answer = api.post("/api/campaigns", json=body, headers=ali.headers)
        assert answer.status_code == 201, answer.text
        return f"/api/campaigns/{answer.json()['data']['id']}"

    return make


@pytest.fixture
def bring(api, ali):
    """Add recipients."""

    def call(campaign, content, kind="text/csv", headers=None, **params):
        headers = (headers or ali.headers) | ({"Content-Type": kind} if kind else {})
        path = f"{campaign}/recipients"
        if isinstance(content, dict):
            return api.put(path, json=content, params=params, headers=headers | {"Content-Type": "application/json"})
        content = content.encode() if isinstance(content, str) else content
        return api.put(path, content=content, params=params, headers=headers)

    return call


@pytest.fixture
def rows(sql):
    def read(campaign):
        number = int(campaign.rpartition("/")[2])
        found = sql.execute(
            "SELECT place, number, name, fields FROM campaign_recipients WHERE campaign_id = %s ORDER BY place",
            (number,),
        )
        return [tuple(row) for row in found]

    return read


def told(answer) -> dict:
    assert answer.status_code == 200, answer.text
    data = answer.json()["data"]
    assert answer.json()["message"] == f"Added {data['added']} recipients"
    return data


CSV = (
    "ФИО;Телефон;Город;Сумма\r\n"
    "Али;998901112233.0;Ташкент;10\r\n"
    "Вали;90 111-22-34;;\r\n"
    "Никто;9.98901E+11;;\r\n"
    "Снова;'+998901112233;Нукус;\r\n"
    f"{'Д' * 256};901112235;;\r\n"
    ";;;\r\n"
)
LEFT_OUT = [
    {
        "line": 4,
        "value": "9.98901E+11",
        "reason": "invalid",
        "sentence": "The spreadsheet rounded this number: its last digits are lost. Format the column as text.",
    },
    {"line": 5, "value": "+998901112233", "reason": "duplicate", "sentence": "Duplicate of line 2."},
    {"line": 6, "value": "+998901112235", "reason": "too_long", "sentence": "The name has more than 255 characters."},
]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1251"])
def test_a_csv_file(api, ali, draft, bring, rows, encoding):
    campaign = draft()
    assert told(bring(campaign, CSV.encode(encoding))) == {
        "added": 2,
        "left_out": 3,
        "reasons": {"invalid": 1, "duplicate": 1, "too_long": 1},
        "columns": ["ФИО", "Город", "Сумма"],
    }
    assert rows(campaign) == [
        (2, "+998901112233", "Али", {"ФИО": "Али", "Город": "Ташкент", "Сумма": "10"}),
        (3, "+998901112234", "Вали", {"ФИО": "Вали"}),
    ]
    page = api.get(f"{campaign}/left-out", headers=ali.headers).json()["data"]
    assert (page["data"], page["total"]) == (LEFT_OUT, 3)
    shown = api.get(campaign, headers=ali.headers).json()["data"]
    assert (shown["counts"]["recipients"], shown["counts"]["left_out"], shown["counts"]["not_made"]) == (2, 3, 2)


def test_a_workbook_and_a_form(api, ali, draft, bring, rows):
    campaign = draft()
    content = (DATA / "oddities.xlsx").read_bytes()
    assert told(bring(campaign, content, XLSX_TYPE))["added"] == 2
    files = {"file": ("people.csv", "a,b\n901112233,901110001\n901112234,901110002\n")}
    answer = api.put(f"{campaign}/recipients", files=files, data={"number_column": "b"}, headers=ali.headers)
    assert told(answer)["added"] == 2
    assert [row[1] for row in rows(campaign)] == [
        "+998901112233",
        "+998901112234",
        "+998901110001",
        "+998901110002",
    ]
    for parameter in ("number_column", "name_column"):
        answer = bring(campaign, "a,b\n901112233,x\n", **{parameter: "z"})
        spoken = parameter.replace("_", " ")
        assert answer.json()["errors"] == {parameter: [f"The {spoken} is none of the file's columns: a, b."]}


def test_a_list(draft, bring, rows):
    campaign = draft()
    listed = [
        "901112233",
        {"number": "+998901112234", "name": " Vali ", "fields": {"City": "Nukus", "amount": 10.5, "none": None}},
        {"number": "x"},
        {"name": "Nobody"},
        901112235,
        {"number": "90 111 22 33"},
        {"number": "901112236", "fields": ["x"]},
        None,
    ]
    data = told(bring(campaign, {"recipients": listed}))
    assert data["reasons"] == {"invalid": 2, "empty": 2, "duplicate": 1}
    assert data["columns"] == ["City", "amount", "none"]
    assert rows(campaign) == [
        (1, "+998901112233", None, None),
        (2, "+998901112234", "Vali", {"City": "Nukus", "amount": "10.5"}),
        (5, "+998901112235", None, None),
    ]
    for body, field in (
        ({}, "recipients"),
        ({"recipients": "x"}, "recipients"),
        ({"group_ids": [10**9]}, "group_ids.0"),
    ):
        answer = bring(campaign, body)
        assert (answer.status_code, list(answer.json()["errors"])) == (422, [field])


def test_contacts_of_groups(api, ali, other, draft, bring, rows):
    def group(user, numbers):
        made = api.post("/api/contact-groups", json={"name": "x"}, headers=user.headers).json()["data"]["id"]
        people = [{"phone_number": number, "name": f"n{number[-1]}"} for number in numbers]
        body = {"contacts": people, "group_id": made}
        assert api.post("/api/contacts/import", json=body, headers=user.headers).status_code == 201
        return made

    first = group(ali, ["+998901112231", "+998901112232"])
    second = group(ali, ["+998901112232", "+998901112233"])
    campaign = draft()
    body = {"group_ids": [first, second], "recipients": ["+998901112233"]}
    data = told(bring(campaign, body))
    assert (data["added"], data["reasons"]) == (3, {"duplicate": 1})
    assert [row[1:3] for row in rows(campaign)] == [
        ("+998901112233", None),
        ("+998901112231", "n1"),
        ("+998901112232", "n2"),
    ]
    assert bring(campaign, {"group_ids": [group(other, ["+998901112239"])]}).status_code == 422


def test_who_has_opted_out_is_left_out(api, ali, other, draft, bring):
    campaign = draft("Hi {name}")
    for user, number in ((ali, "+998901112231"), (other, "+998901112232")):
        assert api.post("/api/opt-outs", json={"phone_number": number}, headers=user.headers).status_code == 201
    data = told(bring(campaign, "phone\n901112231\n901112232\n901112233\n"))
    assert (data["added"], data["reasons"]) == (2, {"opted_out": 1})
    page = api.get(f"{campaign}/left-out", headers=ali.headers).json()["data"]["data"]
    assert page == [
        {
            "line": 2,
            "value": "+998901112231",
            "reason": "opted_out",
            "sentence": "The recipient has opted out of your messages.",
        }
    ]
    api.post("/api/opt-outs", json={"phone_number": "+998901112232"}, headers=ali.headers)
    for message in ("Hi", "Hi {name}"):
        api.patch(campaign, json={"message": message}, headers=ali.headers)
        found = try_it(api, ali, campaign)
        assert (found["recipients"], found["segments"], found["reasons"]) == (1, 1, {"opted_out": 2})


def test_several_calls_add_up(api, ali, draft, bring, rows):
    campaign = draft("Hello {city}{amount}")
    told(bring(campaign, "phone,city\n901112231,A\n901112232,B\n"))
    data = told(bring(campaign, "phone,amount\n901112232,1\n901112233,2\n"))
    assert data == {"added": 1, "left_out": 1, "reasons": {"duplicate": 1}, "columns": ["city", "amount"]}
    assert [row[1] for row in rows(campaign)] == ["+998901112231", "+998901112232", "+998901112233"]
    shown = api.get(campaign, headers=ali.headers).json()["data"]
    assert (shown["counts"]["recipients"], shown["reasons"]) == (3, {"duplicate": 1})
    page = api.get(f"{campaign}/left-out", headers=ali.headers).json()["data"]["data"]
    assert page == [
        {
            "line": 2,
            "value": "+998901112232",
            "reason": "duplicate",
            "sentence": "The campaign already has this number.",
        }
    ]


def test_a_file_that_breaks_in_the_middle_adds_nothing(draft, bring, rows, sql):
    campaign = draft()
    content = "phone\n" + "".join(f"+99890{number:07}\n" for number in range(5000))
    answer = bring(campaign, content + '"never closed\n')
    assert (answer.status_code, list(answer.json()["errors"])) == (422, ["file"])
    assert rows(campaign) == []
    assert sql.execute("SELECT recipients, left_out, columns FROM campaigns").fetchall() == [(0, {}, [])]


@pytest.mark.parametrize("wrong", ["", "name,city\nAli,Tashkent\n"])
def test_a_file_without_numbers(draft, bring, wrong):
    answer = bring(draft(), wrong)
    assert (answer.status_code, list(answer.json()["errors"])) == (422, ["file"])


def test_a_campaign_has_a_most(draft, bring, rows, monkeypatch):
    monkeypatch.setattr(adding, "MAX_RECIPIENTS", 3)
    campaign = draft()
    told(bring(campaign, "phone\n901112231\n901112232\n"))
    answer = bring(campaign, "phone\n901112233\n901112234\n")
    assert (answer.status_code, list(answer.json()["errors"])) == (422, ["recipients"])
    assert len(rows(campaign)) == 2
    assert told(bring(campaign, "phone\n901112231\n901112234\n"))["added"] == 1


def test_only_the_first_rows_that_are_left_out_are_listed(api, ali, draft, bring, monkeypatch):
    monkeypatch.setattr(adding, "MAX_LISTED", 3)
    campaign = draft()
    content = "phone\n901112231\n901112231\nx\n901112231\ny\n"
    for _ in range(2):
        bring(campaign, content)
    page = api.get(f"{campaign}/left-out", headers=ali.headers).json()["data"]["data"]
    assert [(row["line"], row["reason"]) for row in page] == [(3, "duplicate"), (4, "invalid"), (5, "duplicate")]
    reasons = api.get(campaign, headers=ali.headers).json()["data"]["reasons"]
    assert reasons == {"duplicate": 5, "invalid": 4}


def test_two_calls_at_once_leave_each_number_once(api, ali, draft, bring, rows):
    """Both read their rows side by side; one of them sees what the other has added."""
    campaign = draft()
    content = "phone\n" + "".join(f"+99890{number:07}\n" for number in range(20_000))
    answers = []
    threads = [threading.Thread(target=lambda: answers.append(told(bring(campaign, content)))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answer["added"] for answer in answers) == [0, 20_000]
    assert len(rows(campaign)) == 20_000
    assert api.get(campaign, headers=ali.headers).json()["data"]["counts"]["recipients"] == 20_000


def test_what_started_meanwhile_gets_nothing_more(ali, draft, sql, rows):
    """The campaign starts after a call was let in and before its rows are stored."""
    campaign = draft()
    number = int(campaign.rpartition("/")[2])

    def late():
        sql.execute("UPDATE campaigns SET status = 'running' WHERE id = %s", (number,))
        yield Row(1, "+998901112233", None, None)

    with pytest.raises(Refused), transaction() as session:
        adding.add(session, ali.id, number, Source(late()))
    assert rows(campaign) == []


def test_a_start_waits_for_rows_that_are_being_stored(ali, draft, sql, rows):
    """Whoever locks the campaign next sees all of a call's rows or, where it died, none."""
    campaign = draft()
    number = int(campaign.rpartition("/")[2])
    with transaction() as session:
        adding.add(session, ali.id, number, Source(iter([Row(1, "+998901112233", None, None)])))
        with pytest.raises(psycopg.errors.LockNotAvailable):
            sql.execute("SELECT id FROM campaigns WHERE id = %s FOR NO KEY UPDATE NOWAIT", (number,))
    sql.execute("SELECT id FROM campaigns WHERE id = %s FOR NO KEY UPDATE NOWAIT", (number,))
    assert len(rows(campaign)) == 1


def test_once_it_has_started_nothing_is_added(draft, bring, sql):
    campaign = draft()
    sql.execute("UPDATE campaigns SET status = 'running'")
    answer = bring(campaign, {"recipients": ["901112233"]})
    assert (answer.status_code, answer.json()["reason_code"]) == (422, "already_started")


PATHS = (("PUT", "recipients"), ("GET", "recipients"), ("GET", "left-out"), ("POST", "dry-run"), ("POST", "test"))


@pytest.mark.parametrize(("method", "path"), PATHS)
def test_who_may(api, ali, other, draft, method, path):
    campaign = draft()
    body = {"recipients": ["+998901112233"], "recipient_number": "+998901112233"}
    refuses_strangers(api, ali, method, f"{campaign}/{path}", "campaigns", body=body)
    for address in (f"{campaign}/{path}", f"/api/campaigns/0/{path}", f"/api/campaigns/x/{path}"):
        user = other if address.startswith(campaign) else ali
        assert is_not_found(api.request(method, address, json=body, headers=user.headers), "Campaign")


def test_a_plan_without_bulk(api, ali, draft, bring, configured):
    campaign = draft()
    configured(FREE_FEATURES="api")
    answer = bring(campaign, {"recipients": ["+998901112233"]})
    assert (answer.status_code, answer.json()["upgrade"]) == (403, True)
    assert api.get(f"{campaign}/recipients", headers=ali.headers).status_code == 200


@pytest.fixture
def made(draft, bring, sql, ali):
    """A campaign whose recipients stand everywhere."""
    campaign = draft("Hi")
    told(bring(campaign, "phone,name,city\n" + "".join(f"90111223{n},=n{n},c{n}\n" for n in range(9))))
    number = int(campaign.rpartition("/")[2])

    def message(place, status, stage=None, **columns):
        if status != "pending":
            columns[f"{status}_at"] = "2026-01-01"
        columns |= {"user_id": ali.id, "direction": "outbound", "status": status, "campaign_id": number}
        names = ", ".join(["message_id", *columns])
        [(made,)] = sql.execute(
            f"INSERT INTO messages ({names}) VALUES (gen_random_uuid(){', %s' * len(columns)}) RETURNING id",
            tuple(columns.values()),
        ).fetchall()
        sql.execute(
            "UPDATE campaign_recipients SET state = 1, message_id = %s WHERE campaign_id = %s AND place = %s",
            (made, number, place),
        )
        if stage is not None:
            sql.execute(
                "INSERT INTO message_queue (message_id, user_id, device_id, stage, lane, campaign_id, since)"
                " VALUES (%s, %s, 0, %s, 1, %s, now())",
                (made, ali.id, stage, number),
            )
        return made

    ids = [
        message(2, "pending", Stage.WAITING),
        message(3, "pending", Stage.HELD),
        message(4, "pending", Stage.RELEASED),
        message(5, "sent"),
        message(6, "delivered"),
        message(7, "failed", uncertain=True, error_message="The phone never reported"),
        message(8, "cancelled"),
    ]
    sql.execute("UPDATE campaign_recipients SET state = 2 WHERE campaign_id = %s AND place = 9", (number,))
    return campaign, ids


STATES = ["waiting", "held", "given", "sent", "delivered", "failed", "cancelled", "left_out", "not_made"]


def test_recipients_with_where_they_stand(api, ali, made):
    campaign, ids = made
    page = api.get(f"{campaign}/recipients", headers=ali.headers).json()["data"]
    assert [row["state"] for row in page["data"]] == STATES
    assert [row["message_id"] for row in page["data"]] == [*ids, None, None]
    assert page["next_cursor"] is None
    assert page["data"][5] == {
        "place": 7,
        "number": "+998901112235",
        "name": "=n5",
        "fields": {"city": "c5"},
        "state": "failed",
        "uncertain": True,
        "message_id": ids[5],
        "error_message": "The phone never reported",
        "sent_at": None,
        "delivered_at": None,
        "failed_at": "2026-01-01T00:00:00.000000Z",
    }
    for place, state in enumerate([*STATES[:5], "uncertain", *STATES[6:]]):
        found = api.get(f"{campaign}/recipients", params={"state": state}, headers=ali.headers).json()["data"]
        assert [row["place"] for row in found["data"]] == [place + 2], state
    seen, cursor = [], ""
    while cursor is not None:
        params = {"cursor": cursor, "per_page": 2}
        found = api.get(f"{campaign}/recipients", params=params, headers=ali.headers).json()["data"]
        assert len(found["data"]) == 2 or found["next_cursor"] is None
        seen, cursor = seen + [row["place"] for row in found["data"]], found["next_cursor"]
    assert seen == list(range(2, 11))
    for wrong in ({"state": "x"}, {"per_page": 201}):
        answer = api.get(f"{campaign}/recipients", params=wrong, headers=ali.headers)
        assert (answer.status_code, answer.json()["errors"].keys()) == (422, wrong.keys())


def test_a_page_in_search_of_a_state_may_be_short(api, ali, made, monkeypatch):
    monkeypatch.setattr(listing, "_BATCH", 2)
    monkeypatch.setattr(listing, "_MAX_LOOKED_AT", 4)
    campaign, _ = made
    pages, cursor = [], ""
    while cursor is not None:
        params = {"cursor": cursor, "state": "cancelled"}
        found = api.get(f"{campaign}/recipients", params=params, headers=ali.headers).json()["data"]
        pages.append([row["place"] for row in found["data"]])
        cursor = found["next_cursor"]
    assert pages == [[], [8], []]


def test_recipients_and_left_out_as_csv(api, ali, made, bring, monkeypatch):
    monkeypatch.setattr(listing, "_BATCH", 2)
    campaign, ids = made
    answer = api.get(f"{campaign}/recipients", params={"format": "csv", "bom": 1}, headers=ali.headers)
    assert answer.headers["Content-Type"].startswith("text/csv")
    assert answer.text.startswith("\ufeff")
    read = list(csv.DictReader(io.StringIO(answer.text.removeprefix("\ufeff"))))
    assert [row["state"] for row in read] == STATES
    assert read[0]["name"] == "'=n0"
    assert (read[5]["message_id"], read[5]["error"]) == (str(ids[5]), "The phone never reported")
    only = api.get(f"{campaign}/recipients", params={"format": "csv", "state": "sent"}, headers=ali.headers).text
    assert [row["number"] for row in csv.DictReader(io.StringIO(only))] == ["+998901112233"]
    told(bring(campaign, {"recipients": ["=1+1", "901112231"]}))
    text = api.get(f"{campaign}/left-out", params={"format": "csv"}, headers=ali.headers).text
    assert [list(row.values())[:3] for row in csv.DictReader(io.StringIO(text))] == [
        ["1", "'=1+1", "invalid"],
        ["2", "+998901112231", "duplicate"],
    ]


def try_it(api, ali, campaign) -> dict:
    answer = api.post(f"{campaign}/dry-run", headers=ali.headers)
    assert answer.status_code == 200, answer.text
    return answer.json()["data"]


def test_a_dry_run(api, ali, draft, bring, sql):
    campaign = draft("Dear {name}, {City} pays {amount}. {note|Bye}", price=2, rate_per_minute=60)
    told(
        bring(
            campaign,
            "phone,name,city,amount,note\n901112231,Ali,A,10,\n901112232,,,,x\n901112233,Я,C,1,\n"
            f"901112234,B,D,{'y' * 1600},\nx,,,,\n",
        )
    )
    api.post("/api/contacts", json={"phone_number": "+998901112232", "name": "Vali"}, headers=ali.headers)
    found = try_it(api, ali, campaign)
    assert {name: found[name] for name in list(found)[:9]} == {
        "recipients": 4,
        "left_out": 1,
        "reasons": {"invalid": 1},
        "segments": 3,
        "longest": 1,
        "ucs2": 1,
        "too_long": 1,
        "example": "Dear Ali, A pays 10. Bye",
        "price": 6,
    }
    assert found["empty_placeholders"] == [
        {"placeholder": "city", "recipients": 1, "lines": [3]},
        {"placeholder": "amount", "recipients": 1, "lines": [3]},
    ]
    assert (found["devices"], found["ends_at"]) == ([], None)


def test_a_dry_run_tells_phones_and_an_end(api, ali, draft, bring, enroll, device_number):
    fast, slow = device_number(enroll()), device_number(enroll())
    api.put(f"/api/devices/{slow}", json={"send_delay_seconds": 10, "limits": {"per_day": 100}}, headers=ali.headers)
    api.put(f"/api/devices/{fast}", json={"send_delay_seconds": 1}, headers=ali.headers)
    campaign = draft("Hi", device_id=[slow])
    told(bring(campaign, {"recipients": [f"+99890{number:07}" for number in range(250)]}))
    found = try_it(api, ali, campaign)
    [phone] = found["devices"]
    assert (phone["id"], phone["messages_per_hour"], phone["left_today"]) == (slow, 360, 100)
    # A hundred a day: the last fifty on the third.
    took = datetime.fromisoformat(found["ends_at"]) - datetime.fromisoformat(found["starts_at"])
    assert took == timedelta(days=2, seconds=500)
    api.patch(campaign, json={"device_id": "active"}, headers=ali.headers)
    found = try_it(api, ali, campaign)
    took = datetime.fromisoformat(found["ends_at"]) - datetime.fromisoformat(found["starts_at"])
    assert took.total_seconds() == pytest.approx(250 / 1.1)
    api.patch(campaign, json={"rate_per_minute": 30}, headers=ali.headers)
    found = try_it(api, ali, campaign)
    took = datetime.fromisoformat(found["ends_at"]) - datetime.fromisoformat(found["starts_at"])
    assert took.total_seconds() == pytest.approx(62 * 250 / 30), "no minute has more than 30"


@pytest.mark.parametrize("message", ["Hello", "Hello {name|there}"])
def test_a_dry_run_counts_nobody_twice_who_was_left_out_since(message, client, draft, bring, phone, work, ali):
    campaign = draft(message)
    told(bring(campaign, {"recipients": ["901112231", "901112232", "901112233"]}))
    client.post("/api/opt-outs", json={"phone_number": "901112231"})
    before = client.post(f"{campaign}/dry-run").json()["data"]
    assert (before["recipients"], before["reasons"], before["segments"]) == (2, {"opted_out": 1}, 2)
    client.post(f"{campaign}/start")
    work(supervising.look, ali.id)
    after = client.post(f"{campaign}/dry-run").json()["data"]
    assert {**after, "starts_at": None, "ends_at": None} == {**before, "starts_at": None, "ends_at": None}


def test_a_dry_run_ends_within_the_hours(api, ali, draft, bring, enroll, device_number):
    phone = device_number(enroll())
    api.put(f"/api/devices/{phone}", json={"send_delay_seconds": 60}, headers=ali.headers)
    hours = {"from": "10:00", "to": "11:00", "zone": "Asia/Tashkent"}
    # A Monday; an hour is from five to six in the clock of the answer.
    campaign = draft("Hi", hours=hours, start_at="2030-01-07T05:30:00Z")
    told(bring(campaign, {"recipients": [f"+99890{number:07}" for number in range(100)]}))
    assert try_it(api, ali, campaign)["ends_at"] == "2030-01-09T05:10:00.000000Z"


def test_a_text_without_placeholders_and_no_recipients(api, ali, draft, bring):
    campaign = draft("Hi")
    assert (try_it(api, ali, campaign)["segments"], try_it(api, ali, campaign)["example"]) == (0, None)
    told(bring(campaign, {"recipients": ["901112231", "901112232"]}))
    assert (try_it(api, ali, campaign)["segments"], try_it(api, ali, campaign)["example"]) == (2, "Hi")


def test_a_placeholder_that_nobody_has(api, ali, draft, bring):
    campaign = draft("Hi {town}, {City} and {who|you}")
    told(bring(campaign, "phone,city\n901112231,A\n"))
    answer = api.post(f"{campaign}/dry-run", headers=ali.headers)
    assert answer.status_code == 422
    assert answer.json()["errors"] == {
        "message": [
            "The message field has placeholders that the recipients have no field for: {town}. They have: name, city."
        ]
    }


def test_a_field_that_would_fill_the_memory(client, draft, bring, phone, work, ali):
    campaign = draft("{a}" * 533)
    told(bring(campaign, {"recipients": [{"number": "+998901112233", "fields": {"a": "x" * 1_000_000}}]}))
    with memory_below(100):
        found = client.post(f"{campaign}/dry-run").json()["data"]
        assert (found["recipients"], found["too_long"]) == (1, 1)
        assert client.post(f"{campaign}/start").status_code == 200
        work(supervising.look, ali.id)
    left_out = client.get(f"{campaign}/left-out").json()["data"]["data"]
    assert [row["reason"] for row in left_out] == ["too_long"]


def test_the_name_of_a_field_has_an_end(draft, bring):
    answer = bring(draft(), {"recipients": [{"number": "+998901112233", "fields": {"a" * 256: "x"}}]})
    assert answer.json()["errors"] == {"recipients": ["A field's name can have at most 255 characters."]}


def test_the_text_to_ones_own_number(api, ali, draft, bring, enroll, sql):
    campaign = draft("Hi {name}, {city}")
    told(bring(campaign, "phone,name,city\n901112231,Ali,A\n"))
    body = {"recipient_number": "90 999 99 99"}
    assert api.post(f"{campaign}/test", json=body, headers=ali.headers).status_code == 422  # no phone
    enroll()
    answer = api.post(f"{campaign}/test", json=body, headers=ali.token("campaigns")).json()["data"]
    assert (answer["status"], answer["counts"]["not_made"], answer["test"]["status"]) == ("draft", 1, "pending")
    own = {"name": "Me", "fields": {"city": "Here"}}
    assert api.post(f"{campaign}/test", json=body | own, headers=ali.headers).status_code == 200
    found = sql.execute("SELECT recipient_number, message, campaign_id FROM messages ORDER BY id").fetchall()
    assert found == [("+998909999999", "Hi Ali, A", None), ("+998909999999", "Hi Me, Here", None)]


def test_the_text_to_ones_own_number_has_the_name_of_the_first_ones_contact(client, draft, bring, enroll, sql):
    client.post("/api/contacts", json={"phone_number": "+998901112231", "name": "Ali"})
    campaign = draft("Hi {name|there}")
    told(bring(campaign, {"recipients": ["+998901112231"]}))
    enroll()
    assert client.post(f"{campaign}/test", json={"recipient_number": "90 999 99 99"}).status_code == 200
    assert sql.execute("SELECT message FROM messages").fetchone() == ("Hi Ali",)


def test_each_text_has_its_recipients_fields(client, draft, bring, phone, sql, work, ali):
    """Of several files, none of which has all columns."""
    campaign = draft("{name|You} {City}{amount} {who|there}")
    told(bring(campaign, "phone,name,city\n901112231,Ali,A\n901112232,,{amount}\n"))
    told(bring(campaign, "phone,amount\n901112233,7\n"))
    client.post("/api/contacts", json={"phone_number": "+998901112233", "name": "Guli"})
    assert client.post(f"{campaign}/start").status_code == 200
    work(supervising.look, ali.id)
    found = sql.execute("SELECT message FROM messages ORDER BY id").fetchall()
    assert [text for (text,) in found] == ["Ali A there", "You {amount} there", "Guli 7 there"]


def test_a_placeholder_that_nobody_has_stops_the_start(client, draft, bring, phone):
    campaign = draft("Hi {town}")
    told(bring(campaign, "phone,city\n901112231,A\n"))
    for body in ({}, {"start_at": "2030-01-01T00:00:00Z"}):
        answer = client.post(f"{campaign}/start", json=body)
        assert (answer.status_code, list(answer.json()["errors"])) == (422, ["message"])
    assert client.get(campaign).json()["data"]["status"] == "draft"
    client.patch(campaign, json={"message": "Hi {city}"})
    assert client.post(f"{campaign}/start").status_code == 200


def test_files_may_write_their_headers_in_different_cases(client, draft, bring, phone, sql, work, ali):
    campaign = draft("{name|You} in {city}: {sum}")
    told(bring(campaign, "phone,City,SUM\n901112231,Tashkent,1\n"))
    told(bring(campaign, "phone,city,Sum\n901112232,Samarkand,2\n"))
    told(bring(campaign, {"recipients": [{"number": "901112233", "fields": {"CITY": "Nukus", "Name": "Ali"}}]}))
    assert client.post(f"{campaign}/dry-run").json()["data"]["empty_placeholders"] == [
        {"placeholder": "SUM", "recipients": 1, "lines": [5]}
    ]
    assert client.post(f"{campaign}/start").status_code == 200
    work(supervising.look, ali.id)
    assert sql.execute("SELECT array_agg(message ORDER BY id) FROM messages").fetchone() == (
        ["You in Tashkent: 1", "You in Samarkand: 2", "Ali in Nukus: "],
    )


def test_a_duplicate_knows_its_recipients_fields(client, draft, bring):
    campaign = draft("Hi {city}")
    told(bring(campaign, "phone,city\n901112231,A\n"))
    twin = client.post(f"{campaign}/duplicate").json()["data"]["id"]
    assert client.post(f"/api/campaigns/{twin}/dry-run").json()["data"]["example"] == "Hi A"
