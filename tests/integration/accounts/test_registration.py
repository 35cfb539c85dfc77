"""Whether a stranger may make an account, by who can reach the gateway."""

from concurrent.futures import ThreadPoolExecutor

import pytest

PERSON = {"name": "Ali", "password": "secret-1", "password_confirmation": "secret-1"}
CLOSED = (403, {"success": False, "message": "Registration is closed"})


def register(api, name: str):
    return api.post("/api/register", json={**PERSON, "email": f"{name}@example.com"})


REACHED = [
    {"HOST": "0.0.0.0"},
    {"HOST": "192.0.2.7"},
    {"HOST": "::"},
    {"PUBLIC_URL": "https://sms.example.com"},
    {"TRUSTED_PROXIES": "127.0.0.1"},
]


@pytest.mark.parametrize("settings", REACHED)
def test_it_closes_with_the_first_account_where_others_reach_the_gateway(api, configured, settings) -> None:
    configured(**settings)
    assert register(api, "first").status_code == 201
    answer = register(api, "second")
    assert (answer.status_code, answer.json()) == CLOSED


def test_of_many_at_once_one_is_the_first(api, configured, sql) -> None:
    configured(HOST="0.0.0.0")
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda n: register(api, f"n{n}"), range(8)))
    assert sorted(answer.status_code for answer in answers) == [201] + [403] * 7
    assert sql.execute("SELECT count(*) FROM users").fetchone() == (1,)


@pytest.mark.parametrize(
    "settings", [{"HOST": "0.0.0.0", "REGISTRATION": "open"}, {"HOST": "127.0.0.1"}, {"HOST": "localhost"}]
)
def test_it_stays_open_where_the_operator_says_so_or_on_this_machine_alone(api, configured, settings) -> None:
    configured(**settings)
    assert [register(api, name).status_code for name in ("first", "second")] == [201, 201]


def test_closed_is_closed_for_the_first_too(api, configured) -> None:
    configured(REGISTRATION="closed")
    answer = register(api, "first")
    assert (answer.status_code, answer.json()) == CLOSED
