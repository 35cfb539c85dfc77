"""Limits and budgets on a phone's page, and what a send to many comes to."""

import re
from html import unescape

import pytest
from psycopg.types.json import Jsonb

from tests.integration.web.test_safety import browser, token_of
from tests.support.messages_of import add_phone

INPUT = re.compile(r"<input [^>]*>")
ATTRIBUTE = re.compile(r'([\w-]+)(?:="([^"]*)")?')


@pytest.fixture
def ali_at(gateway, ali, database):
    with browser(gateway, ali) as client:
        yield client


def form_with(page, field):
    """What a browser sends of the form that has this field, if nothing is changed in it."""
    form = next(part for part in page.split("<form")[1:] if f'name="{field}"' in part.partition("</form>")[0])
    inputs = [dict(ATTRIBUTE.findall(tag)) for tag in INPUT.findall(form.partition("</form>")[0])]
    sent = {}
    for each in inputs:
        if "name" in each and (each.get("type") != "checkbox" or "checked" in each):
            sent.setdefault(each["name"], []).append(unescape(each.get("value", "")))
    return sent


@pytest.fixture
def phone_page(ali_at, ali, sql):
    number = add_phone(sql, ali)
    cards = [
        {"slot_index": 0, "carrier_name": "One", "phone_number": None},
        {"slot_index": 1, "carrier_name": "Two", "phone_number": None},
    ]
    sql.execute("UPDATE devices SET sim_cards = %s WHERE id = %s", (Jsonb(cards), number))
    return f"/phones/{number}"


def test_a_new_name_leaves_limits_that_were_set_in_another_tab(ali_at, client, phone_page):
    stale = form_with(ali_at.get(phone_page).text, "device_name")
    client.patch(f"/api/devices/{phone_page[8:]}", json={"limits": {"per_hour": 77}})
    assert ali_at.post(phone_page, data=stale | {"device_name": "Pixel"}).status_code == 303
    saved = client.get(f"/api/devices/{phone_page[8:]}").json()["data"]
    assert (saved["device_name"], saved["limits"]) == ("Pixel", {"per_hour": 77})


def test_limits_of_sim_cards_are_kept_whatever_else_is_saved(ali_at, client, phone_page):
    form = form_with(ali_at.get(phone_page).text, "limits[sims][sim-0][per_day]")
    of_sims = {"limits[sims][sim-0][per_day]": "9", "limits[sims][sim-1][per_hour]": "8"}
    assert ali_at.post(phone_page, data=form | of_sims).status_code == 303
    form = form_with(ali_at.get(phone_page).text, "limits[per_day]")
    assert ali_at.post(phone_page, data=form | {"limits[per_day]": "100"}).status_code == 303
    form = form_with(ali_at.get(phone_page).text, "limits[sims][sim-0][per_day]")
    assert ali_at.post(phone_page, data=form | {"limits[sims][sim-0][per_day]": ""}).status_code == 303
    saved = client.get(f"/api/devices/{phone_page[8:]}").json()["data"]["limits"]
    assert saved == {"per_day": 100, "sims": {"1": {"per_hour": 8}}}


@pytest.mark.parametrize("field", ["limits[per_day]", "limits[sims][sim-1][per_day]"])
def test_a_limit_that_is_refused_is_named_at_its_field_and_stays(ali_at, phone_page, field):
    form = form_with(ali_at.get(phone_page).text, field)
    answer = ali_at.post(phone_page, data=form | {field: "-12"})
    assert answer.status_code == 422
    at = re.search(rf'<input [^>]*name="{re.escape(field)}"[^>]*>', answer.text)[0]
    assert 'value="-12"' in at
    assert 'aria-invalid="true"' in at
    assert answer.text.count("must be at least 1") == 1


def test_budgets_are_those_that_hand_out_keeps(ali_at, client, phone_page, sql):
    limits = {"per_day": 150, "sims": {"1": {"per_day": 20}}}
    client.patch(f"/api/devices/{phone_page[8:]}", json={"limits": limits})
    sql.execute(
        "INSERT INTO device_releases (device_id, released_at, sim_slot, segments, recipient)"
        " SELECT %s, clock_timestamp(), 1, 3, n FROM generate_series(1, 5) n",
        (phone_page[8:],),
    )
    shown = re.findall(r'<progress id="budget-(\w+)-per_day" value="(\d+)" max="(\d+)">', ali_at.get(phone_page).text)
    assert shown == [("None", "15", "150"), ("1", "15", "20")]


def test_what_was_left_out_of_many_is_told(ali_at, ali, client, sql):
    add_phone(sql, ali)
    client.post("/api/opt-outs", json={"phone_number": "+998901112233"})
    form = {
        "form_token": token_of(ali_at, "/send"),
        "key": "once",
        "message": "Hello",
        "recipients": "+998901112233\n+998901112234\nx",
        "skip_invalid": "1",
    }
    for _ in range(2):
        answer = ali_at.post("/send", data=form)
        text = " ".join(re.sub(r"<[^>]+>", " ", answer.text).split())
        assert "Queued for sending: 1. Left out: 2." in text
        assert re.search(r"\+998901112233 The recipient has opted out", text), text
        assert re.search(r" x The .* must be a valid phone number", text), text
    assert sql.execute("SELECT count(*) FROM messages").fetchone() == (1,)
