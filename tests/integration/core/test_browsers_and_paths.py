"""CORS, HEAD, tolerated paths, health and metrics."""

import pytest


@pytest.mark.parametrize("path", ["/api/user", "/api/nope", "/api/mobile/v1/device"])
def test_preflight(api, path):
    asked = {
        "Origin": "https://app.example.com",
        "Access-Control-Request-Method": "PATCH",
        "Access-Control-Request-Headers": "authorization,content-type",
    }
    answer = api.options(path, headers=asked)
    assert answer.status_code == 204
    assert answer.headers["Access-Control-Allow-Origin"] == "*"
    assert "PATCH" in answer.headers["Access-Control-Allow-Methods"]
    assert answer.headers["Access-Control-Allow-Headers"] == "authorization,content-type"
    assert "Access-Control-Allow-Credentials" not in answer.headers


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/api/user", 401), ("GET", "/api/nope", 404), ("PUT", "/api/login", 405), ("POST", "/api/login", 422)],
)
def test_errors_can_be_read_by_browsers(api, method, path, status):
    answer = api.request(method, path, headers={"Origin": "https://app.example.com"})
    assert (answer.status_code, answer.headers["Access-Control-Allow-Origin"]) == (status, "*")


def test_too_large_a_body_can_be_read_by_browsers(api):
    answer = api.post("/api/login", content=b"x" * 1_100_000)
    assert (answer.status_code, answer.headers["Access-Control-Allow-Origin"]) == (413, "*")


def test_what_is_not_the_api_has_no_cors(api):
    assert "Access-Control-Allow-Origin" not in api.get("/health/live").headers


def test_head_is_a_get_without_a_body(api, ali):
    got, head = (api.request(method, "/api/user", headers=ali.headers) for method in ("GET", "HEAD"))
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["Content-Length"] == got.headers["Content-Length"] == str(len(got.content))
    assert api.get("/api/user", headers=ali.headers).json() == got.json()


@pytest.mark.parametrize("path", ["/api/user/", "/api/user//"])
def test_trailing_slashes(api, ali, path):
    assert api.get(path, headers=ali.headers).status_code == 200


@pytest.mark.parametrize("path", ["/api/mobile/v1//device", "/api/mobile/v1/device/", "//api/mobile/v1/device"])
def test_double_slashes_of_phones(api, gateway, path):
    answer = api.patch(gateway.url + path, json={"id": "x"})
    assert answer.status_code == 401


def test_blank_parameters_are_absent_ones(api, ali):
    page = api.get("/api/sms?status=&per_page=&direction=inbound&page=", headers=ali.headers).json()["data"]
    assert (page["per_page"], page["current_page"]) == (50, 1)
    assert page["path"].endswith("/api/sms")


def test_double_slashes_elsewhere_are_other_paths(api, ali):
    assert api.get("/api//user", headers=ali.headers).status_code == 404


def test_ready_and_live(api):
    answer = api.get("/health/ready")
    # Nobody works here but the API.
    assert (answer.status_code, answer.json()["status"]) == (200, "degraded")
    assert (answer.json()["database"], answer.json()["broker"]) == ("up", "up")
    assert api.get("/health/live").json() == {"status": "ok"}


def test_ready_without_the_broker(api, servers):
    servers.valkey.stop()
    try:
        answer = api.get("/health/ready")
    finally:
        servers.valkey.start()
    told = answer.json()
    assert (answer.status_code, told["status"], told["database"], told["broker"]) == (200, "degraded", "up", "down")


def test_metrics_tell_routes_and_never_raw_paths(api, ali):
    api.get("/api/secret-path-of-a-scanner")
    api.delete("/api/tokens/77712", headers=ali.headers)
    text = api.get("/metrics").text
    assert 'route="/api/tokens/{key_id}",status="404"' in text
    assert 'route="unmatched",status="404"' in text
    assert "scanner" not in text
    assert "/77712" not in text  # the digits alone may be in a time
