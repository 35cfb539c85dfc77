"""What moves on the page of a campaign that runs: sent down the stream of an open page every few seconds, and given to
one that asks.

In plain ASGI and by one statement: most of what a page costs otherwise is the framework, and transactions to learn who
asks.
"""

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from app.accounts import cookies
from app.accounts.principals import Principal
from app.campaigns import progress
from app.core.database import repeat_once, transaction
from app.core.direct import Call
from app.core.security import parse_token
from app.core.validation import row_id
from app.web.pages import go, page, secured
from app.web.visits import Visit, sign_in_path

_PATH = "/now/campaigns/"


async def _serve(scope: Scope, receive: Receive, send: Send) -> None:
    request = Request(scope)
    response = await run_in_threadpool(_part, request, scope["path"].removeprefix(_PATH))
    await secured(request, response)(scope, receive, send)


def pushed(scope: Scope, campaign: str) -> tuple[bytes, float]:
    """The part for the stream of a page, asked for by `scope`, and for how many seconds the campaign has run; nothing
    where the page had better ask, because nobody is signed in any more or the campaign is gone.
    """
    visit, found = _seen(Request(scope), campaign)
    if visit is None or found is None:
        return b"", 0.0
    return bytes(_shown(visit, found).body), found.ran.total_seconds()


def _part(request: Request, campaign: str) -> Response:
    visit, found = _seen(request, campaign)
    if visit is None:
        return go(sign_in_path(request), is_htmx=True)
    if found is None:  # deleted while one looks
        return Response(status_code=204)
    return _shown(visit, found)


def _shown(visit: Visit, campaign: progress.Moving) -> Response:
    return page(visit, "campaign_now.html", campaign=campaign, anew=True)


def _seen(request: Request, campaign: str) -> tuple[Visit | None, progress.Moving | None]:
    """Who asks, where somebody is signed in, and what moves of the campaign, where it is theirs."""
    cookie = cookies.read(request.scope, cookies.SESSION) or ""
    found = repeat_once(lambda: _read(cookie, row_id(campaign)))
    if found is None or found[0].kind != "session":
        return None, None
    _, language, moving = found
    return Visit(request, cookie, wanted_language=language), moving


def _read(cookie: str, campaign: int | None) -> tuple[Principal, str | None, progress.Moving | None] | None:
    credentials = parse_token(cookie)
    if credentials is None:
        return None
    with transaction(hot=True, autocommit=True) as session:
        return progress.moving(session, credentials, campaign)


calls = (Call("GET", _PATH + "{campaign}", _serve),)
