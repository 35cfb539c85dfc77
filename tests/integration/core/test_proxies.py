"""Whose word about addresses and hosts is taken."""

import httpx
import pytest

from app.core.edge import respond
from app.core.links import base_url
from app.core.proxies import TrustedProxies


async def seen(scope, receive, send):
    await respond(send, 200, f"{scope['scheme']} {scope['client'][0]}".encode())


def ask(app, peer, **headers):
    import asyncio

    async def run():
        transport = httpx.ASGITransport(app=app, client=(peer, 1))
        async with httpx.AsyncClient(transport=transport, base_url="http://sms.example.com") as client:
            return (await client.get("/", headers=headers)).text

    return asyncio.run(run())


@pytest.mark.parametrize(
    ("proxies", "peer", "client"),
    [
        ("", "127.0.0.1", "http 127.0.0.1"),
        ("10.0.0.0/8", "127.0.0.1", "http 127.0.0.1"),
        ("10.0.0.0/8, ::1", "10.1.2.3", "https 203.0.113.7"),
        ("10.0.0.0/8, ::1", "::1", "https 203.0.113.7"),
    ],
)
def test_only_a_named_proxy_says_who_the_client_is(configured, proxies, peer, client):
    configured(TRUSTED_PROXIES=proxies)
    headers = {"X-Forwarded-For": "198.51.100.1, 203.0.113.7", "X-Forwarded-Proto": "https"}
    assert ask(TrustedProxies(seen), peer, **headers) == client


def test_an_unnamed_proxy_is_logged_once(configured, caplog, capsys):
    configured(TRUSTED_PROXIES="")
    app = TrustedProxies(seen)
    for _ in range(3):
        ask(app, "192.0.2.1", **{"X-Forwarded-For": "203.0.113.7"})
    logged = capsys.readouterr()
    assert (logged.out + logged.err + caplog.text).count("SMSFLEET_TRUSTED_PROXIES") == 1


def test_made_up_addresses_are_no_way_around_the_sign_in_limit(api):
    codes = [
        api.post("/api/register", json={}, headers={"X-Forwarded-For": f"203.0.113.{number}"}).status_code
        for number in range(31)
    ]
    assert codes[-1] == 429


@pytest.mark.parametrize(
    ("host", "allowed", "link"),
    [
        ("sms.example.com", "", "http://sms.example.com"),
        ("sms.example.com:8000", "", "http://sms.example.com:8000"),
        ("[2001:db8::1]:8000", "", "http://[2001:db8::1]:8000"),
        ("SMS.example.com", "sms.example.com", "http://SMS.example.com"),
        ("evil.example", "sms.example.com", "http://192.0.2.5:8000"),
        ('evil"><script>', "", "http://192.0.2.5:8000"),
        ("evil.example/path", "", "http://192.0.2.5:8000"),
        ("a@evil.example", "", "http://192.0.2.5:8000"),
        ("evil.example:port", "", "http://192.0.2.5:8000"),
    ],
)
def test_hosts_in_links(configured, host, allowed, link):
    configured(ALLOWED_HOSTS=allowed, PUBLIC_URL="")
    scope = {"scheme": "http", "server": ("192.0.2.5", 8000), "headers": [(b"host", host.encode())]}
    assert base_url(scope) == link
    configured(PUBLIC_URL="https://public.example.com")
    assert base_url(scope) == "https://public.example.com"


def test_answers_of_the_api_are_not_stored(api, ali):
    for path in ("/api/tokens", "/api/nothing", "/api/webhooks/secret"):
        assert api.get(path, headers=ali.headers).headers["Cache-Control"] == "no-store"
