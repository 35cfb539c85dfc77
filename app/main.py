"""The HTTP application: the edge around FastAPI, the features' routes, and the errors' envelope."""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from importlib import import_module

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.routing import Match
from starlette.types import ASGIApp

from app.accounts.token_use import write_token_usage
from app.campaigns.watching import watchers
from app.checks import figures
from app.core import exposure, liveness, tracing
from app.core.direct import Call, DirectCalls
from app.core.edge import Bodies, Edge
from app.core.errors import AppError, Invalid, MethodNotAllowed, RouteNotFound, as_app_error
from app.core.gc_tuning import share_the_interpreter
from app.core.heavy import HeavyCalls
from app.core.logs import configure_logging
from app.core.places import Places
from app.core.proxies import TrustedProxies
from app.core.settings import get_settings
from app.core.validation import sentences
from app.devices.callers import account_of
from app.devices.streams import Streams
from app.features import PACKAGES, any_of
from app.messages import measuring
from app.messages.accepting.sending import Sending
from app.messages.dispatch import waking
from app.migrations.revisions import refuse_older
from app.mobile.calls import PhoneCalls
from app.web import campaign_now
from app.web.live import Pages
from app.web.pages import error_page, secured

log = structlog.get_logger(__name__)

LifespanHook = Callable[[], AbstractAsyncContextManager[None]]

_METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")


def create_app() -> ASGIApp:
    """What uvicorn runs: `uvicorn app.main:create_app --factory`."""
    configure_logging()
    liveness.watch()
    refuse_older()
    tracing.refuse_without_packages()
    if not (settings := get_settings()).is_local:
        told = {"registration": exposure.registration(settings), "webhooks go": exposure.webhook_reach(settings)}
        log.info("others can reach this gateway", **told)
    phones, pages = Streams(waking.due), Pages()
    calls = [*direct_calls(phones), *pages.calls, *campaign_now.calls]
    hooks = [phones.held, pages.held, watchers().held, liveness.signs_of_life]
    application = TrustedProxies(Edge(DirectCalls(create_api(hooks), calls)))
    share_the_interpreter()
    return application


def direct_calls(phones: Streams) -> list[Call]:
    """The calls that are answered in front of FastAPI."""
    return [*Sending(account_of).calls, *PhoneCalls(phones, account_of).calls]


def create_api(hooks: Sequence[LifespanHook] = ()) -> FastAPI:
    """The FastAPI application. `hooks` are entered, in order, when the server starts, and left when it stops."""
    api = FastAPI(
        title="smsfleet",
        lifespan=_lifespan(hooks),
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        telemetry={"tracing": False, "metrics": False, "logs": False},
    )
    api.state.measure = lambda: [*measuring.measure(), *figures.measure()]
    for package in PACKAGES:
        for module in package.routes:
            api.include_router(import_module(f"app.{package.name}.{module}").router)
    api.add_exception_handler(AppError, _app_error)
    api.add_exception_handler(RequestValidationError, _validation_error)
    api.add_exception_handler(HTTPException, _http_error)
    api.add_exception_handler(Exception, _unexpected)
    api.add_middleware(Places, account_of=account_of)  # innermost: each later one is around those before
    api.add_middleware(Bodies, account_of=account_of, large=any_of("large"), files=any_of("files"))
    api.add_middleware(HeavyCalls, account_of=account_of, heavy=any_of("heavy"))
    return api


def _lifespan(hooks: Sequence[LifespanHook]) -> Callable[[FastAPI], AbstractAsyncContextManager[None]]:
    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            for hook in hooks:
                await stack.enter_async_context(hook())
            yield
        await run_in_threadpool(write_token_usage)
        await run_in_threadpool(tracing.finish)

    return lifespan


def _answer(error: AppError) -> Response:
    return JSONResponse(error.body(), error.status, error.headers)


def _app_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, AppError)
    return _answer(error)


def _unexpected(_: Request, error: Exception) -> Response:
    return _answer(as_app_error(error))


def _validation_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    found = error.errors()
    unreadable: AppError | None = request.scope.get("state", {}).get("body_error")
    if unreadable is not None and any(item["loc"][0] == "body" for item in found):
        return _answer(unreadable)
    return _answer(Invalid(sentences(found, skip=1)))


def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    path, method = request.scope["path"], request.scope["method"]
    if error.status_code == 404:  # noqa: PLR2004 - no route
        return _no_route(request, RouteNotFound(path))
    if error.status_code == 405:  # noqa: PLR2004 - a route, with other methods
        return _no_route(request, MethodNotAllowed(method, path, _supported(request)))
    return JSONResponse({"success": False, "message": str(error.detail)}, error.status_code, error.headers)


def _no_route(request: Request, error: AppError) -> Response:
    """A page to a browser that strayed."""
    is_api = f"{request.scope['path']}/".startswith("/api/")
    if is_api or "text/html" not in request.headers.get("accept", ""):
        return _answer(error)
    return secured(request, error_page(request, error))


def _supported(request: Request) -> list[str]:
    """The methods of all routes at the request's path; HEAD wherever GET is."""
    routes, direct = request.app.routes, request.scope.get("direct_methods", ())
    found = [
        method
        for method in _METHODS
        if method in direct or any(r.matches({**request.scope, "method": method})[0] == Match.FULL for r in routes)
    ]
    return ["GET", "HEAD", *found[1:]] if "GET" in found else found
