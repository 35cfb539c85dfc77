"""How a page is made: the templates, what all of them know, the headers of every answer, and errors as pages."""

from collections.abc import Callable, Coroutine, Mapping
from datetime import UTC, datetime
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import structlog
from fastapi import Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse
from fastapi.routing import APIRoute
from markupsafe import Markup

from app.accounts import cookies
from app.core import outages
from app.core.errors import AppError, Invalid, NotFound, as_app_error
from app.core.once import once
from app.web import static, words
from app.web.visits import SignInNeeded, Visit, anybody, sign_in_path, stranger
from app.web.words import marked

if TYPE_CHECKING:
    from jinja2 import Environment

log = structlog.get_logger(__name__)

_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self';"
    " base-uri 'none'; frame-ancestors 'none'"
)
_YEAR = 365 * 86_400

# What a page says at its top after something was done; by the word in `?done=`.
DONE = {
    "saved": marked("Saved."),
    "removed": marked("Removed."),
    "blocked": marked("Blocked. What waited is being cancelled."),
    "unblocked": marked("The account can be used again."),
    "cancelled": marked("Cancelled."),
    "queued": marked("Queued for sending."),
    "password": marked("Your password is changed. Other browsers have to sign in again."),
    "session": marked("That browser is signed out."),
    "replaying": marked("Being delivered again."),
    "reset": marked("Your password is changed. Sign in with the new one."),
    "signed-out": marked("You are signed out."),
    "deleted": marked("Your account is deleted."),
    "confirmed": marked("Your address is confirmed."),
    "code-sent": marked("A code is on its way to your address."),
}


class Form(dict[str, Any]):
    """What was typed into a form; nothing where a field was not there."""

    def __missing__(self, name: str) -> str:
        return ""


class PageRoute(APIRoute):
    """A route whose answers are pages, its errors too."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def answer(request: Request) -> Response:
            try:
                response = await handle(request)
            except SignInNeeded:
                response = go(sign_in_path(request), is_htmx="hx-request" in request.headers)
            except NotFound as error:
                # What a page shows and follows may be removed while one leaves it.
                is_part = "hx-request" in request.headers
                response = Response(status_code=204) if is_part else error_page(request, error)
            except AppError as error:
                response = error_page(request, error)
            except Exception as error:
                if (told := as_app_error(error)).status != HTTPStatus.SERVICE_UNAVAILABLE:
                    raise
                log.warning("page refused", error=error)
                response = _away_page(request, told, outages.part_of(error))
            return secured(request, response)

        return answer


def secured(request: Request, response: Response) -> Response:
    """With the headers that every answer of the dashboard has."""
    headers = response.headers
    headers.setdefault("Content-Security-Policy", _POLICY)
    headers.setdefault("Cache-Control", "no-store")
    headers["Referrer-Policy"] = "same-origin"
    headers["X-Content-Type-Options"] = "nosniff"
    headers["Cross-Origin-Opener-Policy"] = "same-origin"
    if cookies.is_secure(request.scope):
        headers["Strict-Transport-Security"] = f"max-age={_YEAR}"
    return response


def _translated(text: str) -> Markup:
    return Markup(words.gettext(text))  # noqa: S704 - of the catalogs


@once
def _environment() -> "Environment":
    from jinja2 import Environment, FileSystemLoader, StrictUndefined  # noqa: PLC0415 - at the first page

    from app.web import shown  # noqa: PLC0415 - as above

    found = Environment(
        loader=FileSystemLoader(static.HERE / "templates"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
        extensions=["jinja2.ext.i18n"],
    )
    found.install_gettext_callables(words.gettext, words.ngettext, newstyle=True)  # type: ignore[attr-defined]
    found.filters |= shown.FILTERS
    found.globals |= {
        "_": _translated,  # the extension's own is for sentences with parameters too, at five times the cost
        "asset": static.address,
        "languages": words.LANGUAGES,
        "errors": {},
        "form": Form(),
        "fault": None,
    }
    return found


def page(visit: Visit, template: str, *, status: int = 200, error: AppError | None = None, **context: Any) -> Response:
    """A page. With an `error` that somebody can mend it shows it where it belongs, and keeps what was typed."""
    if error is not None:
        context["errors"] = _by_field(error.errors) if isinstance(error, Invalid) else {}
        context["fault"] = None if isinstance(error, Invalid) else error.message
        status = error.status if status == 200 else status  # noqa: PLR2004 - OK
    context["form"] = Form(visit.form)
    with words.speaking(visit.language, visit.zone):
        text = (
            _environment()
            .get_template(template)
            .render(
                visit=visit,
                now=datetime.now(UTC),
                path=visit.request.url.path,
                language=words.language(),
                done=DONE.get(visit.query("done")),
                **context,
            )
        )
    response = HTMLResponse(text, status_code=status)
    if visit.new_anchor:
        set_cookie(visit, response, cookies.VISITOR, visit.anchor)
    return response


def _by_field(errors: Mapping[str, list[str]]) -> dict[str, list[str]]:
    """By the names that fields of forms have: `hours.from` is `hours[from]`."""
    parts = {name: name.split(".") for name in errors}
    return {"".join([first, *(f"[{part}]" for part in rest)]): errors[name] for name, (first, *rest) in parts.items()}


def in_one_field(error: AppError, *fields: str) -> AppError:
    """`error` for a page that has one field for all items of each of these."""
    if not isinstance(error, Invalid):
        return error
    told: dict[str, list[str]] = {}
    for name, sentences in error.errors.items():
        whole = next((field for field in fields if name.startswith(field)), name)
        told.setdefault(whole, []).extend(sentences)
    return Invalid(told)


def set_cookie(visit: Visit, response: Response, cookie: str, value: str, lasts: int | None = None) -> None:
    scope = visit.request.scope
    response.set_cookie(
        cookies.name(scope, cookie),
        value,
        max_age=lasts,
        path="/",
        secure=cookies.is_secure(scope),
        httponly=True,
        samesite="lax",
    )


def end_cookie(visit: Visit, response: Response, cookie: str) -> None:
    scope = visit.request.scope
    response.delete_cookie(
        cookies.name(scope, cookie), path="/", secure=cookies.is_secure(scope), httponly=True, samesite="lax"
    )


def go(path: str, *, is_htmx: bool = False) -> Response:
    """To another page. What htmx asked for leads the whole page there."""
    if is_htmx:
        return Response(status_code=204, headers={"HX-Redirect": path})
    return RedirectResponse(path, 303)


def error_page(request: Request, error: AppError) -> Response:
    """What a browser is told of a refusal."""
    reason = getattr(error, "reason", None)
    why = reason.sentence.format(**error.parameters) if reason else None
    response = page(anybody(request), "error.html", status=error.status, refusal=error, why=why)
    response.headers.update(error.headers)
    return response


def _away_page(request: Request, error: AppError, part: outages.Part | None) -> Response:
    """Of what everything needs: who asks is not known either."""
    response = page(stranger(request), "away.html", status=error.status, part=part)
    response.headers.update(error.headers)
    return response
