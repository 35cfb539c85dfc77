"""PUT, PATCH and DELETE through a POST, as Laravel's clients send them."""

import pytest

ACCOUNT = "/api/settings"


@pytest.mark.parametrize(
    "how",
    [
        {"data": {"_method": "PUT", "keep_inbound": "0"}},
        {"json": {"_method": "put", "keep_inbound": False}},
        {"data": {"keep_inbound": "0"}, "params": {"_method": "PUT"}},
        {"data": {"keep_inbound": "0"}, "headers": {"X-HTTP-Method-Override": "PUT"}},
        {"files": {"_method": (None, "PATCH"), "keep_inbound": (None, "0")}, "path": "device"},
    ],
)
def test_it_is_the_method_that_is_meant(api, ali, how):
    path = ACCOUNT
    if how.get("path"):
        how = {key: value for key, value in how.items() if key != "path"}
        group = api.post("/api/contact-groups", json={"name": "x"}, headers=ali.headers).json()["data"]["id"]
        path, how = f"/api/contact-groups/{group}", {"files": {"_method": (None, "PATCH"), "name": (None, "y")}}
    headers = ali.headers | how.pop("headers", {})
    answer = api.post(path, headers=headers, **how)
    assert answer.status_code == 200, answer.text
    assert "X-Ignored-Fields" not in answer.headers
    assert api.post(path, headers=ali.headers).status_code == 405


def test_delete(api, ali):
    group = api.post("/api/contact-groups", json={"name": "x"}, headers=ali.headers).json()["data"]["id"]
    path = f"/api/contact-groups/{group}"
    assert api.post(path, data={"_method": "DELETE"}, headers=ali.headers).status_code == 200
    assert api.get(path, headers=ali.headers).status_code == 404


def test_it_opens_nothing(api, ali, other):
    """The route that is meant asks for its own token, ability and owner."""
    group = api.post("/api/contact-groups", json={"name": "x"}, headers=ali.headers).json()["data"]["id"]
    path = f"/api/contact-groups/{group}"
    form = {"_method": "DELETE"}
    assert api.post(path, data=form).status_code == 401
    assert api.post(path, data=form, headers=ali.token("sms:send")).status_code == 403
    assert api.post(path, data=form, headers=other.headers).status_code == 404
    # Other methods stay what they are, a stranger's form cannot say more than a POST, and phones have no forms.
    assert api.get(path, params=form, headers=ali.headers).status_code == 200
    assert api.request("PUT", path, json={"name": "z", "_method": "DELETE"}, headers=ali.headers).status_code == 200
    assert api.post("/api/mobile/v1/device?_method=PATCH", json={"name": "x"}).status_code == 401
    assert api.get(path, headers=ali.headers).status_code == 200


@pytest.mark.parametrize("method", ["GET", "OPTIONS", "TRACE", "REMOVE", "PUT\r\nX: y"])
def test_only_methods_that_change_something(api, ali, method):
    answer = api.post("/api/contact-groups", json={"name": "x", "_method": method}, headers=ali.headers)
    assert (answer.status_code, list(answer.json()["errors"])) == (422, ["_method"])
    assert api.get("/api/contact-groups", headers=ali.headers).json()["data"]["total"] == 0


def test_a_large_call_is_not_reached_by_it(api, ali):
    body = {"contacts": [{"phone_number": "+998901234567"}]}
    headers = {"X-HTTP-Method-Override": "PUT"}
    assert api.post("/api/contacts/import", json=body, headers=ali.headers | headers).status_code in {404, 405}
    assert api.put("/api/contacts/import", json={"_method": "POST", **body}, headers=ali.headers).status_code == 404
