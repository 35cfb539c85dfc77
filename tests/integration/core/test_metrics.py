"""Who is shown the figures."""

import pytest


def test_without_a_token_this_machine_is_shown_them(api) -> None:
    assert "smsfleet_http_requests_total" in api.get("/metrics").text


@pytest.mark.parametrize("header", ["X-Forwarded-For", "Forwarded", "Via", "X-Real-IP"])
def test_without_a_token_nobody_is_shown_them_through_a_proxy(api, header: str) -> None:
    answer = api.get("/metrics", headers={header: "127.0.0.1"})
    assert answer.status_code == 403
    assert "SMSFLEET_METRICS_TOKEN" in answer.json()["message"]


def test_behind_a_public_address_they_need_a_token(api, configured) -> None:
    configured(PUBLIC_URL="https://sms.example.com")
    assert api.get("/metrics").status_code == 403


def test_with_a_token_only_who_has_it_is_shown_them(api, configured) -> None:
    configured(METRICS_TOKEN="s3cret-ü", PUBLIC_URL="https://sms.example.com")
    for wrong in ({}, {"Authorization": "Bearer s3cret"}, {"Authorization": "s3cret-ü".encode()}):
        answer = api.get("/metrics", headers=wrong)
        assert (answer.status_code, answer.json()["success"]) == (401, False)
    right = {"Authorization": "Bearer s3cret-ü".encode(), "X-Forwarded-For": "203.0.113.9"}
    assert "smsfleet_http_requests_total" in api.get("/metrics", headers=right).text


def test_behind_named_proxies_they_need_a_token(api, configured) -> None:
    configured(TRUSTED_PROXIES="192.0.2.0/24")
    assert api.get("/metrics").status_code == 403
