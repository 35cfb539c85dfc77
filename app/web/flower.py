"""Flower behind the dashboard's sign-in: operators look through it without a second password."""

import base64
import hashlib
from urllib.parse import unquote, urlsplit

from fastapi import APIRouter, Request, Response
from starlette.concurrency import run_in_threadpool
from starlette.types import Scope

from app.accounts import audit
from app.accounts.audit import Action
from app.core import places
from app.core.database import transaction
from app.core.errors import RouteNotFound, Unavailable
from app.core.http_client import AsyncClient, HTTPError, Timeout, create_ssl_context
from app.core.refusals import FLOWER_UNAVAILABLE
from app.core.settings import get_settings
from app.web.pages import PageRoute
from app.web.visits import Operator, refuse_elsewhere

router = APIRouter(include_in_schema=False, route_class=PageRoute)

PATH = "/flower/"
_SECONDS = Timeout(30, connect=3)
# Flower has its own password from us; what the browser is known by stays here.
_PASSED_ON = ("accept", "accept-language", "content-type", "if-none-match", "if-modified-since", "x-requested-with")
_PASSED_BACK = ("content-type", "content-disposition", "cache-control", "etag", "last-modified", "expires")
_UNAUTHORIZED = 401
_MAX_PATH = 255
# The only scripts that Flower has within its pages, by their texts.
_OWN_SCRIPTS = [f"\nvar autorefresh = {value};\n" for value in (0, 1)]
_HASHES = " ".join(f"'sha256-{base64.b64encode(hashlib.sha256(s.encode()).digest()).decode()}'" for s in _OWN_SCRIPTS)
_POLICY = (
    f"default-src 'none'; script-src 'self' {_HASHES}; style-src 'self' 'unsafe-inline'; img-src 'self' data:;"
    " connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)


def is_there() -> bool:
    """Whether this installation has a Flower to look through."""
    return get_settings().flower_url is not None


@router.api_route("/flower/{path:path}", methods=["GET", "POST"])
async def flower(visit: Operator, request: Request, path: str) -> Response:
    """Pass a request on to Flower, and its answer back."""
    url = get_settings().flower_url
    if url is None:
        raise RouteNotFound(f"{PATH}{path}")
    if request.method == "POST":
        refuse_elsewhere(visit.request, certainly=True)
    wanted = {name: value for name in _PASSED_ON if (value := request.headers.get(name))}
    address = urlsplit(url.get_secret_value())
    if request.method == "POST":
        wanted["content-type"] = request.state.content_type or "application/x-www-form-urlencoded"
    places.leave()
    try:
        async with AsyncClient(
            auth=(unquote(address.username or ""), unquote(address.password or "")),
            verify=create_ssl_context() if address.scheme == "https" else False,
            trust_env=False,
            timeout=_SECONDS,
        ) as client:
            answer = await client.request(
                request.method,
                f"{address.scheme}://{address.hostname}:{address.port or 5555}{_asked(request.scope)}",
                headers=wanted,
                content=request.state.raw_body if request.method == "POST" else None,
            )
    except HTTPError:
        raise Unavailable(FLOWER_UNAVAILABLE) from None
    if answer.status_code == _UNAUTHORIZED:
        raise Unavailable(FLOWER_UNAVAILABLE)
    if request.method == "POST" and answer.is_success:
        await run_in_threadpool(_write_down, path)
    headers = {name: value for name in _PASSED_BACK if (value := answer.headers.get(name))}
    if (to := answer.headers.get("location", "")).startswith(PATH):
        headers["location"] = to
    headers["Content-Security-Policy"] = _POLICY
    return Response(answer.content, answer.status_code, headers)


def _write_down(path: str) -> None:
    with transaction() as session:
        audit.record(session, Action.FLOWER_USED, None, path=path[:_MAX_PATH])


def _asked(scope: Scope) -> str:
    """The path and query as they came: Flower's own table asks with parameters that have no value."""
    path, query = scope["raw_path"].decode("latin-1"), scope.get("whole_query", b"").decode("latin-1")
    return f"{path}?{query}" if query else path
