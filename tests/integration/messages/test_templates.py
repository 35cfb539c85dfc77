"""Templates: kept texts, sent by their number in single sends, bulk sends and campaigns."""

import pytest

from tests.support.guards import is_not_found, refuses_strangers

ALI, LAYLO = "+998901112233", "+998901112234"


@pytest.fixture
def template(client):
    def make(message="Hello {name|there}, we open at {hour}.", name="Hours"):
        answer = client.post("/api/templates", json={"name": name, "message": message})
        assert answer.status_code == 201, answer.text
        return answer.json()["data"]

    return make


def test_a_template_is_kept_changed_and_deleted(client, template, api, other):
    made = template(" Hello {Name|there}, {name}!\n")
    assert (made["message"], made["placeholders"]) == (" Hello {Name|there}, {name}!\n", ["Name"])
    second = template("x", "Another")
    assert [each["name"] for each in client.get("/api/templates").json()["data"]["data"]] == ["Another", "Hours"]
    found = client.get("/api/templates", params={"search": "HELLO"}).json()["data"]["data"]
    assert [each["id"] for each in found] == [made["id"]]
    path = f"/api/templates/{made['id']}"
    changed = client.patch(path, json={"message": "Bye {who}"}).json()["data"]
    assert (changed["name"], changed["placeholders"]) == ("Hours", ["who"])
    assert client.get(path).json()["data"] == changed
    for answer in (
        client.post("/api/templates", json={"name": "Hours", "message": "x"}),
        client.put(f"/api/templates/{second['id']}", json={"name": "Hours"}),
    ):
        assert answer.json()["errors"] == {"name": ["The name has already been taken."]}
    for method in ("GET", "PUT", "DELETE"):
        assert is_not_found(api.request(method, path, json={}, headers=other.headers), "Template")
    assert client.delete(path).status_code == 200
    assert is_not_found(client.get(path), "Template")


@pytest.mark.parametrize(("method", "path"), [("GET", "/api/templates"), ("POST", "/api/templates")])
def test_templates_need_the_ability_to_send(api, ali, method, path):
    refuses_strangers(api, ali, method, path, "sms:send", body={})


@pytest.fixture
def sent(sql):
    return lambda: [row[0] for row in sql.execute("SELECT message FROM messages ORDER BY id").fetchall()]


def test_a_single_send_by_template(client, phone, template, sent, api, other, enroll):
    number = template()["id"]
    body = {"template_id": number, "recipient_number": ALI, "device_id": phone.device_id}
    assert client.post("/api/sms", json=body | {"fields": {"hour": 9, "NAME": "Ali"}}).status_code == 201
    assert client.post("/api/sms", json=body | {"fields": {"hour": "{name}"}}).status_code == 201
    assert sent() == ["Hello Ali, we open at 9.", "Hello there, we open at {name}."]
    for fields, errors in (
        ({}, {"message": ["The message field has placeholders that no field fills: {hour}."]}),
        ({"template_id": 0}, {"template_id": ["The selected template id is invalid."]}),
        ({"message": "x"}, {"message": ["The message field cannot be given together with a template."]}),
        ({"template_id": None}, {"message": ["The message field is required."]}),
        ({"template_id": "x"}, None),
        ({"fields": {"hour": "x" * 1600}}, None),
        ({"fields": "x"}, None),
    ):
        answer = client.post("/api/sms", json=body | fields)
        assert answer.status_code == 422, fields
        assert errors is None or answer.json()["errors"] == errors
    named = {"device_id": enroll(other).device_id, "fields": {"hour": 9}}
    theirs = api.post("/api/sms", json=body | named, headers=other.headers)
    assert list(theirs.json()["errors"]) == ["template_id"]
    assert len(sent()) == 2


def test_a_text_is_filled_where_fields_are_given_and_stays_where_not(client, phone, sent):
    body = {"message": "Hello {name}", "recipient_number": ALI, "device_id": phone.device_id}
    assert client.post("/api/sms", json=body).status_code == 201
    assert client.post("/api/sms", json=body | {"fields": {"name": "Ali"}}).status_code == 201
    assert sent() == ["Hello {name}", "Hello Ali"]


def test_a_bulk_send_by_template(client, phone, template, sent):
    number = template()["id"]
    people = [{"number": ALI, "name": "Ali"}, LAYLO]
    body = {"template_id": number, "recipients": people, "device_id": phone.device_id}
    answer = client.post("/api/sms/bulk", json=body | {"fields": {"hour": 9}})
    assert answer.status_code == 201, answer.text
    assert sent() == ["Hello Ali, we open at 9.", "Hello there, we open at 9."]
    answer = client.post("/api/sms/bulk", json=body)
    assert answer.json()["errors"] == {"message": ["The message field has placeholders that no field fills: {hour}."]}
    assert list(client.post("/api/sms/bulk", json=body | {"template_id": 0}).json()["errors"]) == ["template_id"]
    missing = client.post("/api/sms/bulk", json={"recipients": [ALI]})
    assert missing.json()["errors"] == {"message": ["The message field is required."]}
    plain = {"message": "Hi {name|you} {name}", "recipients": people, "device_id": phone.device_id}
    client.post("/api/sms/bulk", json=plain)
    assert sent()[2:] == ["Hi {name|you} Ali", "Hi {name|you} "], "as it was before there were templates"


def test_a_preview_of_a_template(client, template):
    body = {"template_id": template()["id"]}
    assert client.post("/api/sms/preview", json=body).json()["data"]["message"] == "Hello there, we open at {hour}."
    filled = client.post("/api/sms/preview", json=body | {"fields": {"hour": 9}}).json()["data"]
    assert (filled["message"], filled["segments"]) == ("Hello there, we open at 9.", 1)
    assert list(client.post("/api/sms/preview", json={"template_id": 0}).json()["errors"]) == ["template_id"]


def test_a_campaign_takes_the_text_as_it_is_then(client, template):
    made = template()
    body = {"name": "Sale", "template_id": made["id"]}
    campaign = client.post("/api/campaigns", json=body).json()["data"]
    assert campaign["message"] == made["message"]
    client.put(f"/api/templates/{made['id']}", json={"message": "Bye"})
    path = f"/api/campaigns/{campaign['id']}"
    assert client.get(path).json()["data"]["message"] == made["message"]
    assert client.patch(path, json={"template_id": made["id"]}).json()["data"]["message"] == "Bye"
    assert list(client.post("/api/campaigns", json=body | {"template_id": 0}).json()["errors"]) == ["template_id"]
    assert list(client.post("/api/campaigns", json={"name": "x"}).json()["errors"]) == ["message"]
