"""Contacts and groups, one by one."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.support.guards import is_not_found, refuses_strangers

NO_NUMBER = {"phone_number": ["The phone number field must be a valid phone number, with + and the country code."]}


@pytest.fixture
def call(api, ali):
    def send(method, path, body=None, headers=None, **query):
        return api.request(method, f"/api{path}", json=body, headers=headers or ali.headers, params=query)

    return send


@pytest.fixture
def contact(call):
    def make(number="+998901234567", headers=None, **fields):
        answer = call("POST", "/contacts", {"phone_number": number, **fields}, headers)
        assert answer.status_code == 201, answer.text
        return answer.json()["data"]

    return make


@pytest.fixture
def group(call):
    def make(name="Friends", headers=None):
        answer = call("POST", "/contact-groups", {"name": name}, headers)
        assert answer.status_code == 201, answer.text
        return answer.json()["data"]

    return make


def listed(answer) -> list[int]:
    assert answer.status_code == 200, answer.text
    data = answer.json()["data"]
    assert data["total"] == len(data["data"])
    return [item["id"] for item in data["data"]]


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/api/contacts"),
        ("POST", "/api/contacts"),
        ("POST", "/api/contacts/import"),
        ("GET", "/api/contacts/export"),
        *((method, "/api/contacts/1") for method in ("GET", "PUT", "PATCH", "DELETE")),
        ("GET", "/api/contact-groups"),
        ("POST", "/api/contact-groups"),
        *((method, "/api/contact-groups/1") for method in ("GET", "PUT", "PATCH", "DELETE")),
        ("GET", "/api/contact-groups/1/contacts"),
        ("POST", "/api/contact-groups/1/contacts"),
        ("DELETE", "/api/contact-groups/1/contacts/1"),
    ],
)
def test_who_may(api, ali, contact, group, method, path):
    assert (contact()["id"], group()["id"]) == (1, 1)
    refuses_strangers(api, ali, method, path, "contacts", body=None if method == "GET" else {})


def test_nothing_of_others(call, contact, group, other):
    theirs, circle = contact(headers=other.headers)["id"], group(headers=other.headers)["id"]
    for method in ("GET", "PUT", "PATCH", "DELETE"):
        for name in (theirs, 0, "x", 10**30):
            assert is_not_found(call(method, f"/contacts/{name}", {"phone_number": 5}), "Contact")
        for name in (circle, 0, "x"):
            assert is_not_found(call(method, f"/contact-groups/{name}", {"name": 5}), "ContactGroup")
    assert is_not_found(call("GET", f"/contact-groups/{circle}/contacts"), "ContactGroup")
    assert is_not_found(call("POST", f"/contact-groups/{circle}/contacts", {}), "ContactGroup")
    assert is_not_found(call("DELETE", f"/contact-groups/{circle}/contacts/{theirs}"), "ContactGroup")
    assert listed(call("GET", "/contacts")) == listed(call("GET", "/contact-groups")) == []
    assert listed(call("GET", "/contacts", group_id=circle)) == []
    mine = contact(name="Mine")["id"]
    refused = call("PUT", f"/contacts/{mine}", {"group_ids": [circle]})
    assert refused.json()["errors"] == {"group_ids.0": ["The selected group ids.0 is invalid."]}
    my_circle = group()["id"]
    refused = call("POST", f"/contact-groups/{my_circle}/contacts", {"contact_ids": [mine, theirs]})
    assert refused.json()["errors"] == {"contact_ids.1": ["The selected contact ids.1 is invalid."]}
    assert listed(call("GET", f"/contact-groups/{my_circle}/contacts")) == []


def test_from_creating_to_deleting(call, contact, group):
    friends = group()
    made = contact("+998 (90) 123-45-67", name=" Ali ", email="ali@example.com", notes="", group_ids=[friends["id"]])
    assert {name: made[name] for name in ("name", "phone_number", "email", "notes")} == {
        "name": "Ali",
        "phone_number": "+998901234567",
        "email": "ali@example.com",
        "notes": None,
    }
    assert made["groups"] == [{"id": friends["id"], "name": "Friends"}]
    assert made["created_at"].endswith("Z")
    path = f"/contacts/{made['id']}"
    assert call("GET", path).json() == {"success": True, "data": made}

    changed = call("PUT", path, {"name": "Vali", "phone_number": "+998901112233"}).json()
    assert changed["message"] == "Contact updated successfully"
    assert (changed["data"]["name"], changed["data"]["email"]) == ("Vali", "ali@example.com")
    assert changed["data"]["updated_at"] > made["updated_at"]
    cleared = call("PATCH", path, {"name": None, "group_ids": []}).json()["data"]
    assert (cleared["name"], cleared["groups"], cleared["phone_number"]) == (None, [], "+998901112233")

    gone = call("DELETE", path)
    assert (gone.status_code, gone.json()) == (200, {"success": True, "message": "Contact deleted successfully"})
    assert is_not_found(call("GET", path), "Contact")


def test_a_number_is_there_once(call, contact, other):
    first, second = contact(), contact("+998901112233")
    contact(headers=other.headers)
    taken = {"phone_number": ["The phone number has already been taken."]}
    assert call("POST", "/contacts", {"phone_number": "+998 901234567"}).json()["errors"] == taken
    for method in ("PUT", "PATCH"):
        answer = call(method, f"/contacts/{second['id']}", {"phone_number": "+998901234567"})
        assert (answer.status_code, answer.json()["errors"]) == (422, taken)
    assert call("PUT", f"/contacts/{first['id']}", {"phone_number": "+998901234567"}).status_code == 200


def test_made_by_many_at_once(call):
    def make(_):
        return call("POST", "/contacts", {"phone_number": "+998901234567"}).status_code

    with ThreadPoolExecutor(8) as pool:
        assert sorted(pool.map(make, range(8))) == [201] + [422] * 7


def test_changed_and_deleted_at_once(call, contact, group):
    circles = [group()["id"] for _ in range(6)]
    people = [contact(f"+9989011122{n:02}", group_ids=circles)["id"] for n in range(6)]
    calls = [("PUT", f"/contacts/{person}", {"group_ids": circles[:3], "name": "New"}) for person in people]
    calls += [("POST", f"/contact-groups/{circle}/contacts", {"contact_ids": people}) for circle in circles]
    calls += [("DELETE", f"/contact-groups/{circle}", None) for circle in circles[1:3] * 2]
    calls += [("DELETE", f"/contacts/{person}", None) for person in people[:2] * 2]
    with ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(lambda one: call(*one), calls * 2))
    assert {answer.status_code for answer in answers} <= {200, 404, 422}
    assert listed(call("GET", "/contacts")) == people[:1:-1]
    assert listed(call("GET", "/contact-groups")) == [*circles[:2:-1], circles[0]]


@pytest.mark.parametrize(
    ("body", "errors"),
    [
        ({}, {"phone_number": ["The phone number field is required."]}),
        ({"phone_number": "12"}, NO_NUMBER),
        ({"phone_number": "901234567"}, NO_NUMBER),
        (
            {"phone_number": "+" * 33},
            {"phone_number": ["The phone number field must not be greater than 32 characters."]},
        ),
        (
            {"phone_number": "+998901234567", "name": "x" * 256},
            {"name": ["The name field must not be greater than 255 characters."]},
        ),
        (
            {"phone_number": "+998901234567", "email": "nobody"},
            {"email": ["The email field must be a valid email address."]},
        ),
        (
            {"phone_number": "+998901234567", "notes": "x" * 1001},
            {"notes": ["The notes field must not be greater than 1000 characters."]},
        ),
        (
            {"phone_number": "+998901234567", "group_ids": [9]},
            {"group_ids.0": ["The selected group ids.0 is invalid."]},
        ),
        ({"phone_number": "+998901234567", "group_ids": "9"}, {"group_ids": ["The group ids field must be an array."]}),
    ],
)
def test_what_is_wrong_is_named(call, body, errors):
    answer = call("POST", "/contacts", body)
    assert (answer.status_code, answer.json()["errors"]) == (422, errors)
    assert listed(call("GET", "/contacts")) == []


def test_national_numbers_where_the_user_has_a_region(call, contact):
    call("PUT", "/settings", {"default_region": "UZ"})
    assert contact("90 123 45 67")["phone_number"] == "+998901234567"


def test_search_pages_and_group(call, contact, group):
    friends = group()["id"]
    ali = contact("+998901234567", name="Ali Valiyev", group_ids=[friends])["id"]
    vali = contact("+998901112233", name="Vali", email="vali_1@example.com")["id"]
    noted = contact("+15005550006", notes="100% sure")["id"]
    for query, expected in (
        ({}, [noted, vali, ali]),
        ({"search": "vali"}, [vali, ali]),
        ({"search": "1112"}, [vali]),
        ({"search": "VALI_1"}, [vali]),
        ({"search": "valiX1"}, []),
        ({"search": "%"}, [noted]),
        ({"group_id": friends}, [ali]),
        ({"group_id": friends, "search": "nobody"}, []),
        ({"group_id": ""}, [noted, vali, ali]),
    ):
        assert listed(call("GET", "/contacts", **query)) == expected, query
    page = call("GET", "/contacts", per_page=2, page=2).json()["data"]
    assert ([item["id"] for item in page["data"]], page["total"], page["last_page"]) == ([ali], 3, 2)
    assert call("GET", "/contacts", group_id="x").status_code == 422


def test_groups_and_their_members(call, contact, group):
    friends, family = group(), group("Family")
    assert friends["contacts_count"] == 0
    ali, vali = contact()["id"], contact("+998901112233")["id"]
    path = f"/contact-groups/{friends['id']}"
    for _ in range(2):
        added = call("POST", f"{path}/contacts", {"contact_ids": [ali, str(vali), ali]})
        assert added.json()["message"] == "Contacts added to the group"
    assert added.json()["data"] == {"added": 0}
    assert listed(call("GET", f"{path}/contacts")) == [vali, ali]
    assert call("GET", path).json()["data"]["contacts_count"] == 2
    assert listed(call("GET", "/contact-groups")) == [family["id"], friends["id"]]
    assert listed(call("GET", "/contact-groups", search="fam")) == [family["id"]]
    removed = call("DELETE", f"{path}/contacts/{ali}")
    assert (removed.status_code, removed.json()["message"]) == (200, "Contact removed from the group")
    assert is_not_found(call("DELETE", f"{path}/contacts/{ali}"), "Contact")
    for method, name in (("PUT", "Old friends"), ("PATCH", "Best friends")):
        renamed = call(method, path, {"name": name}).json()
        assert (renamed["message"], renamed["data"]["name"]) == ("Contact group updated successfully", name)
    assert call("PUT", path, {"name": " "}).json()["errors"] == {"name": ["The name field is required."]}
    assert call("PATCH", path, {}).json()["data"]["name"] == "Best friends"
    assert call("DELETE", path).json() == {"success": True, "message": "Contact group deleted successfully"}
    assert is_not_found(call("GET", path), "ContactGroup")
    assert listed(call("GET", "/contacts")) == [vali, ali]
    assert call("POST", "/contact-groups", {}).json()["errors"] == {"name": ["The name field is required."]}
    empty = call("POST", f"/contact-groups/{family['id']}/contacts", {"contact_ids": []})
    assert empty.json()["errors"] == {"contact_ids": ["The contact ids field must have at least 1 items."]}
