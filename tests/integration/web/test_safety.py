"""What strangers write stays text, forms of other sites do nothing, and what every page says to browsers."""

import json
import re
from datetime import timedelta

import httpx
import pytest
from fastapi.routing import iter_route_contexts

from tests.support.messages_of import add_message, add_phone

EVIL = "<img src=x onerror=alert(1)>\"'><script>alert(1)</script>{{ 7 * 7 }}"
ELSEWHERE = {"Sec-Fetch-Site": "cross-site"}


def forms():
    """Every form of the dashboard: the path of each route that takes a POST."""
    from app.main import create_api

    routes = iter_route_contexts(create_api().routes)
    posts = [route.path for route in routes if "POST" in (route.methods or ())]
    return sorted(path for path in posts if not path.startswith(("/api", "/hooks")))


def browser(gateway, account=None):
    cookies = {"smsfleet_session": account.headers["Authorization"].removeprefix("Bearer ")} if account else {}
    return httpx.Client(base_url=gateway.url, cookies=cookies)


def token_of(client, path):
    return re.search(r'name="form_token" value="(\w+)"', client.get(path).text)[1]


def everything(sql):
    tables = sql.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public' ORDER BY 1").fetchall()
    untouched = {"tokens", "phone_watch", "device_state"}
    return {name: sql.execute(f"SELECT * FROM {name}").fetchall() for (name,) in tables if name not in untouched}


def test_no_form_is_taken_from_another_site_or_without_its_token(gateway, ali, sql, database) -> None:
    add_phone(sql, ali, default=True)
    assert len(forms()) > 35
    with browser(gateway, ali) as client:
        good = token_of(client, "/settings")
        before = everything(sql)
        for path in forms():
            address = re.sub(r"\{[\w:]+\}", "1", path)
            sent = {"message": "Hello", "recipients": "+998901112233", "name": "x", "code": "x"}
            for headers, token in ((ELSEWHERE, good), ({}, "wrong"), ({"Origin": "https://evil.example"}, good)):
                if path.endswith("/import"):
                    files = {"file": ("a.csv", b"phone\n+998901112233\n")}
                    answer = client.post(address, headers=headers, data={"form_token": token}, files=files)
                else:
                    answer = client.post(address, headers=headers, data={**sent, "form_token": token})
                assert answer.status_code in {404, 422}, (path, headers, answer.status_code)
        assert everything(sql) == before


def test_a_form_of_a_stranger_leads_to_the_entrance(gateway, sql, database) -> None:
    open_to_all = {"/sign-in", "/register", "/forgot-password", "/reset-password", "/start/{secret}"}
    with browser(gateway) as client:
        token = token_of(client, "/sign-in")
        for path in set(forms()) - open_to_all:
            answer = client.post(re.sub(r"\{[\w:]+\}", "1", path), data={"form_token": token})
            assert (answer.status_code, answer.headers.get("location")) in {(303, "/sign-in"), (404, None)}, path


def test_a_page_of_another_account_is_not_there(gateway, ali, other, sql, database) -> None:
    phone = add_phone(sql, ali)
    message = add_message(sql, ali)
    with browser(gateway, other) as client:
        for path in (f"/phones/{phone}", f"/messages/{message}", "/webhooks/1", "/contacts/1", "/groups/1"):
            assert client.get(path).status_code == 404
        assert "+998901234567" not in client.get("/messages").text


def test_an_api_key_is_no_session_of_a_browser(gateway, ali, database) -> None:
    key = ali.token()["Authorization"].removeprefix("Bearer ")
    answer = httpx.get(f"{gateway.url}/messages", cookies={"smsfleet_session": key})
    assert answer.status_code == 303
    with browser(gateway, ali) as client:
        assert client.get("/api/user").status_code == 401


def test_what_every_page_says_to_browsers(gateway, ali, configured, database) -> None:
    with browser(gateway, ali) as client:
        for path in ("/", "/sign-in", "/phones", "/nothing/here", "/phones/77"):
            headers = client.get(path).headers
            if path == "/nothing/here":
                continue
            policy = dict(part.strip().partition(" ")[::2] for part in headers["content-security-policy"].split(";"))
            assert policy["default-src"] == "'none'"
            assert policy["frame-ancestors"] == "'none'"
            assert {policy[name] for name in ("script-src", "style-src", "img-src", "connect-src", "form-action")} == {
                "'self'"
            }
            assert headers["referrer-policy"] == "same-origin"
            assert headers["x-content-type-options"] == "nosniff"
            assert headers["cache-control"] == "no-store"
    configured(PUBLIC_URL="https://sms.example.com")
    answer = httpx.get(f"{gateway.url}/sign-in")
    assert "strict-transport-security" in answer.headers
    cookie = answer.headers["set-cookie"]
    assert cookie.startswith("__Host-smsfleet_visitor=")
    assert {"HttpOnly", "Path=/", "SameSite=lax", "Secure"} <= {part.strip() for part in cookie.split(";")}


def test_the_bare_address_leads_a_stranger_to_the_entrance(gateway, database) -> None:
    for method in ("GET", "HEAD"):
        answer = httpx.request(method, f"{gateway.url}/", follow_redirects=True)
        assert (answer.status_code, answer.url.path) == (200, "/sign-in")


def test_next_leads_nowhere_else(gateway, ali, database) -> None:
    with browser(gateway, ali) as client:
        for path in ("//evil.example", "https://evil.example", "/\\evil.example", "javascript:alert(1)"):
            assert client.get("/sign-in", params={"next": path}).headers["location"] == "/"


def test_who_signs_in_comes_back_to_the_page_with_the_form(gateway, database) -> None:
    places = {
        "/campaigns/7": "?next=/campaigns/7",
        "/messages?status=failed": "?next=/messages%3Fstatus%3Dfailed",
        "/": "",
        "http://[": "",
    }
    for place, kept in places.items():
        shown = place if place.startswith("http") else gateway.url + place
        for headers in ({"Referer": shown}, {"HX-Request": "true", "HX-Current-URL": shown}):
            refused = httpx.post(f"{gateway.url}/campaigns/7", headers=headers)
            led = refused.headers.get("location") or refused.headers.get("hx-redirect")
            assert (refused.status_code in {204, 303}, led) == (True, f"/sign-in{kept}")
    assert httpx.post(f"{gateway.url}/campaigns/7").headers["location"] == "/sign-in"


def test_what_moves_of_a_campaign_is_for_who_is_signed_in_and_has_it(gateway, ali, other, client, database) -> None:
    campaign = client.post("/api/campaigns", json={"name": "Sale", "message": "Hello"}).json()["data"]["id"]
    page = f"{gateway.url}/now/campaigns/{campaign}"
    whence = {"HX-Request": "true", "HX-Current-URL": f"{gateway.url}/campaigns/{campaign}"}

    def ask(headers: dict[str, str] | None) -> httpx.Response:
        token = (headers or {}).get("Authorization", "").removeprefix("Bearer ")
        return httpx.get(page, headers=whence | ({"Cookie": f"smsfleet_session={token}"} if token else {}))

    shown = ask(ali.headers)
    assert (shown.status_code, "0 of 0" in shown.text) == (200, True)
    assert "default-src 'none'" in shown.headers["Content-Security-Policy"]
    assert ask(other.headers).status_code == 204
    for nobody in (None, ali.token(), ali.token(kind="session", expires_in=timedelta(seconds=-1))):
        refused = ask(nobody)
        assert (refused.status_code, refused.text) == (204, "")
        assert refused.headers["HX-Redirect"] == f"/sign-in?next=/campaigns/{campaign}"
    assert client.delete(f"/api/campaigns/{campaign}").status_code == 200
    assert ask(ali.headers).status_code == 204
    assert ask(ali.headers).headers.get("HX-Redirect") is None


@pytest.mark.needs_browser
def test_what_strangers_write_is_shown_as_text(browse, ali, client, sql) -> None:
    phone = add_phone(sql, ali, name=EVIL, default=True)
    sql.execute("UPDATE devices SET app_version = '<b>1', phone_number = '<b>' WHERE id = %s", (phone,))
    message = add_message(sql, ali, message=EVIL, my_id=EVIL, status="failed", error_message=EVIL, device_id=phone)
    part = json.dumps([{"name": EVIL, "content_type": "text/html", "size": 3, "part_id": 1}])
    received = add_message(
        sql, ali, direction="inbound", sender_number="<b>evil</b>", message=EVIL, kind="mms", attachments=part
    )
    group = client.post("/api/contact-groups", json={"name": EVIL}).json()["data"]["id"]
    contact = client.post(
        "/api/contacts",
        json={"phone_number": "+998901112233", "name": EVIL, "notes": EVIL, "group_ids": [group]},
    ).json()["data"]["id"]
    client.post("/api/tokens", json={"name": EVIL, "abilities": ["sms:send"]})
    [delivery] = sql.execute(
        "INSERT INTO webhook_deliveries (webhook_id, user_id, event, hook, url, message_id, state, error, body,"
        " finished_at) VALUES (gen_random_uuid(), %s, 'status', 'status', 'http://127.0.0.1:9/<b>', %s, 'failed', %s,"
        " %s, clock_timestamp()) RETURNING id",
        (ali.id, message, EVIL, EVIL),
    ).fetchone()
    sql.execute(
        "INSERT INTO webhook_attempts (delivery_id, url, status_code, answer, duration_ms) VALUES (%s, %s, 500, %s, 1)",
        (delivery, EVIL, EVIL),
    )
    file = f'Phone;Name;"{EVIL.replace(chr(34), chr(34) * 2)}"\n+998901112233;{EVIL.replace(chr(34), "")};x\n{EVIL};;\n'
    campaign = client.post("/api/campaigns", json={"name": EVIL, "message": EVIL}).json()["data"]["id"]
    client.put(f"/api/campaigns/{campaign}/recipients", content=file.encode(), headers={"Content-Type": "text/csv"})
    client.post("/api/opt-outs", json={"phone_number": "+998901112244", "note": EVIL})
    sql.execute("UPDATE users SET name = %s", (EVIL,))
    sql.execute("UPDATE tokens SET name = %s WHERE kind = 'session'", (EVIL,))
    visitor = browse(ali)
    asked = []
    visitor.page.on("dialog", lambda dialog: (asked.append(dialog.message), dialog.dismiss()))
    for path in (
        "/",
        "/first-steps",
        "/send",
        "/phones",
        f"/phones/{phone}",
        "/messages",
        f"/messages/{message}",
        f"/messages/{received}",
        "/conversations",
        "/conversations/%3Cb%3Eevil%3C%2Fb%3E",
        "/contacts",
        f"/contacts/{contact}",
        "/groups",
        f"/groups/{group}?add=img",
        "/keys",
        "/campaigns",
        f"/campaigns/{campaign}",
        f"/campaigns/{campaign}/recipients",
        f"/campaigns/{campaign}/left-out",
        "/opt-outs",
        "/webhooks",
        f"/webhooks/{delivery}",
        "/settings",
    ):
        visitor.open(path)
        assert visitor.page.locator("img[src=x], main script, main b:text('evil')").count() == 0, path
        assert "49" not in visitor.page.locator("h1").first.inner_text()
    assert asked == []
    visitor.open(f"/messages?search={EVIL}&number={EVIL}&status=x")
    assert visitor.page.locator("img[src=x]").count() == 0
    visitor.complaints.clear()


def test_parts_of_an_mms_are_pictures_or_files_and_never_pages_or_faults(gateway, ali, sql, phone) -> None:
    phone.sync()
    told = {"messageId": "1", "sender": "+998901112233", "receivedAt": phone.now()}
    parts = [("image/png", "aGVsbG8="), ("text/html", "aGVsbG8="), ("image/png", "abc"), ("image/png", "!")]
    attachments = [{"contentType": kind, "data": data} for kind, data in parts]
    assert phone.hook("mms:downloaded", {**told, "attachments": attachments}) == 200
    [message] = sql.execute("SELECT id FROM messages").fetchone()
    with browser(gateway, ali) as client:
        shown, saved, *unreadable = [client.get(f"/messages/{message}/parts/{place}") for place in range(len(parts))]
    assert (shown.content, shown.headers["content-type"]) == (b"hello", "image/png")
    assert (saved.headers["content-type"], saved.headers["content-disposition"]) == (
        "application/octet-stream",
        "attachment",
    )
    assert "sandbox" in shown.headers["content-security-policy"]
    assert [answer.status_code for answer in unreadable] == [404, 404]
