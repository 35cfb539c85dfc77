"""Where a page's links lead, whatever the page was the answer to."""

import re

import pytest

from tests.integration.web.test_safety import browser, token_of

CONTACTS = (
    "INSERT INTO contacts (user_id, phone_number) SELECT %s, '+99890111' || 1000 + n FROM generate_series(1, 60) n"
)
OPT_OUTS = (
    "INSERT INTO opt_outs (user_id, phone_number, by) SELECT %s, '+99890111' || 1000 + n, 'owner'"
    " FROM generate_series(1, 60) n"
)
DELIVERIES = (
    "INSERT INTO webhook_deliveries (webhook_id, user_id, event, hook, url, state, body, finished_at)"
    " SELECT gen_random_uuid(), %s, 'status', 'status', 'http://127.0.0.1:9/', 'failed', '{}', clock_timestamp()"
    " FROM generate_series(1, 60)"
)


def older(page) -> str:
    return re.search(r'rel="next" href="([^"]+)"', page.text)[1].replace("&amp;", "&")


def test_older_leads_on_from_the_answer_to_a_form(gateway, ali, sql, database) -> None:
    for rows in (CONTACTS, OPT_OUTS, DELIVERIES):
        sql.execute(rows, (ali.id,))
    [group] = sql.execute(
        "INSERT INTO contact_groups (user_id, name) VALUES (%s, 'All') RETURNING id", (ali.id,)
    ).fetchone()
    sql.execute("INSERT INTO contact_group_members (group_id, contact_id) SELECT %s, id FROM contacts", (group,))
    file = {"file": ("people.csv", b"phone\n+998901112233\n")}
    with browser(gateway, ali) as client:
        token = {"form_token": token_of(client, "/settings")}
        for path, fields, files in (
            ("/contacts/import", {}, file),
            ("/contacts/import", {}, {"file": ("people.xlsx", b"no workbook")}),
            ("/opt-outs/import", {}, file),
            ("/opt-outs/settings", {"opt_out_words": "STOP " * 200}, None),
            ("/webhooks/test/status", {}, None),
            ("/webhooks/replay", {}, None),
            (f"/groups/{group}/contacts", {}, None),
        ):
            answered = client.post(path, data={**token, **fields}, files=files)
            following = client.get(older(answered), headers={"Accept": "text/html"})
            assert (following.status_code, 'rel="prev"' in following.text) == (200, True), path


BROWSER = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8", "Accept-Language": "ru"}


@pytest.mark.parametrize(
    ("method", "path", "status"), [("GET", "/nosuch", 404), ("GET", "/settings/password", 405), ("POST", "/docs", 405)]
)
def test_an_address_that_is_no_page_is_told_in_a_page(gateway, database, method, path, status) -> None:
    with browser(gateway) as client:
        shown = client.request(method, path, headers=BROWSER)
        assert (shown.status_code, shown.headers["content-type"]) == (status, "text/html; charset=utf-8")
        assert "Такой страницы нет" in shown.text
        assert '<a href="/">' in shown.text
        assert "default-src 'none'" in shown.headers["Content-Security-Policy"]
        assert ("allow" in shown.headers) == (status == 405)
        for told in (client.request(method, path), client.request(method, f"/api{path}", headers=BROWSER)):
            assert told.json()["success"] is False
