"""What holds for every call that needs a token."""

from datetime import timedelta
from typing import Any

import httpx

from app.accounts.principals import ABILITIES

REVOKED = {"success": False, "message": "Unauthenticated."}
FORBIDDEN = {"success": False, "message": "Invalid ability provided."}


def refuses_strangers(api: httpx.Client, user: Any, method: str, path: str, ability: str, *, body: Any = None) -> None:
    """No token, a revoked one, an expired one: 401; one that may do everything else: 403."""

    def call(headers: dict[str, str]) -> httpx.Response:
        return api.request(method, path, json=body, headers=headers)

    revoked = user.token()
    assert api.post("/api/logout", headers=revoked).status_code == 200
    expired = user.token(expires_in=timedelta(seconds=-1))
    lacking = user.token(*(set(ABILITIES) - {"*", ability}))
    for headers in ({}, revoked, expired, {"Authorization": "Bearer 1|no-such-secret"}):
        answer = call(headers)
        assert (answer.status_code, answer.json()) == (401, REVOKED), (method, path, headers)
    answer = call(lacking)
    assert (answer.status_code, answer.json()) == (403, FORBIDDEN), (method, path)


def is_not_found(answer: httpx.Response, model: str) -> bool:
    return (answer.status_code, answer.json()) == (
        404,
        {"success": False, "message": f"No query results for model [{model}]."},
    )
