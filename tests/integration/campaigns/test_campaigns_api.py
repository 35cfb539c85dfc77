"""Campaigns as their owner keeps them: made, listed, changed, deleted; and whose they are."""

import pytest

from tests.support.guards import is_not_found, refuses_strangers

CALLS = [
    ("GET", ""),
    ("PATCH", ""),
    ("DELETE", ""),
    ("POST", "/start"),
    ("POST", "/pause"),
    ("POST", "/resume"),
    ("POST", "/cancel"),
    ("POST", "/retry-failed"),
    ("POST", "/duplicate"),
    ("GET", "/events"),
]


@pytest.mark.parametrize(("method", "path"), CALLS)
def test_a_campaign_is_its_owners(api, ali, other, method, path):
    number = api.post("/api/campaigns", json={"name": "x", "message": "y"}, headers=ali.headers).json()["data"]["id"]
    refuses_strangers(api, ali, method, f"/api/campaigns/{number}{path}", "campaigns", body={})
    answer = api.request(method, f"/api/campaigns/{number}{path}", json={}, headers=other.headers)
    assert is_not_found(answer, "Campaign")
    assert is_not_found(api.request(method, f"/api/campaigns/none{path}", json={}, headers=ali.headers), "Campaign")


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_strangers_have_no_list_and_make_none(api, ali, method):
    refuses_strangers(api, ali, method, "/api/campaigns", "campaigns", body={"name": "x", "message": "y"})


def test_a_key_with_the_ability_alone_is_enough(api, ali, other, campaign):
    number = campaign()
    key = ali.token("campaigns")
    assert api.get(f"/api/campaigns/{number}", headers=key).status_code == 200
    assert [one["id"] for one in api.get("/api/campaigns", headers=key).json()["data"]["data"]] == [number]
    assert api.get("/api/campaigns", headers=other.headers).json()["data"]["total"] == 0


def test_making_and_starting_need_the_plan(client, campaign, ask, configured):
    number = campaign()
    configured(FREE_FEATURES="api")
    assert client.post("/api/campaigns", json={"name": "x", "message": "y"}).status_code == 403
    assert ask(number, "start", 403)
    assert client.get(f"/api/campaigns/{number}").status_code == 200


def test_a_draft_is_changed_wholly_and_a_running_one_in_part(client, phone, campaign, ask, device_number):
    number = campaign(device_id=phone.device_id, hours={"from": "09:00", "to": "20:00", "days": ["mon", "tue"]})
    shown = client.get(f"/api/campaigns/{number}").json()["data"]
    assert shown["device_id"] == device_number(phone)
    assert (shown["hours"]["from"], shown["hours"]["to"], shown["hours"]["days"]) == ("09:00", "20:00", ["mon", "tue"])

    def change(status=200, **fields):
        answer = client.patch(f"/api/campaigns/{number}", json=fields)
        assert answer.status_code == status, answer.text
        return answer.json()

    assert change(message="Bye", hours=None, device_id="active")["data"]["message"] == "Bye"
    assert change(422, name="")["errors"] == {"name": ["The name field is required."]}
    ask(number, "start")
    assert change(422, message="Hello", my_id="x")["errors"] == {
        "message": ["The message field cannot be changed once the campaign has started."],
        "my_id": ["The my id field cannot be changed once the campaign has started."],
    }
    changed = change(name="Autumn", rate_per_minute=30, end_at="2999-01-01")["data"]
    assert (changed["name"], changed["rate_per_minute"]) == ("Autumn", 30)
    ask(number, "cancel")
    assert change(name="Winter")["data"]["name"] == "Winter"
    assert change(422, rate_per_minute=3)["errors"]["rate_per_minute"]


def test_a_list_by_status_in_pages(client, phone, campaign, ask):
    drafts = [campaign(name=f"draft {n}") for n in range(3)]
    running = campaign(name="running")
    ask(running, "start")
    page = client.get("/api/campaigns", params={"per_page": 2}).json()["data"]
    assert ([one["id"] for one in page["data"]], page["total"]) == ([running, drafts[2]], 4)
    page = client.get("/api/campaigns", params={"status": "draft"}).json()["data"]
    assert [one["id"] for one in page["data"]] == drafts[::-1]
    assert client.get("/api/campaigns", params={"status": "x"}).status_code == 422


def test_one_that_is_under_way_is_not_deleted(client, phone, campaign, ask, sql, look):
    number = campaign()
    ask(number, "start")
    look()
    answer = client.delete(f"/api/campaigns/{number}")
    assert (answer.status_code, answer.json()["reason_code"]) == (422, "only_at_rest")
    [message] = phone.pull()[:1]
    ask(number, "cancel")
    assert client.delete(f"/api/campaigns/{number}").status_code == 200
    phone.send(message["id"])
    assert sql.execute("SELECT count(*) FROM messages WHERE status = 'delivered'").fetchone() == (1,)


def test_what_is_reported_of_a_deleted_campaign_is_forgotten(client, phone, campaign, ask, sql, look, work):
    from app.campaigns import progress

    number = campaign(recipients=1)
    ask(number, "start")
    look()
    [message] = phone.pull()
    ask(number, "cancel")
    client.delete(f"/api/campaigns/{number}")
    phone.send(message["id"])
    work(progress.fold_all)
    assert sql.execute("SELECT count(*) FROM campaign_deltas").fetchone() == (0,)
    assert sql.execute("SELECT count(*) FROM campaign_totals").fetchone() == (0,)
