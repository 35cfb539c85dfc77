"""Who visits a page: the session in the cookie, the form that was posted, and whether it came from our own page."""

import hashlib
import hmac
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import date, datetime, time
from typing import Annotated, Any
from urllib.parse import quote, urlsplit
from zoneinfo import ZoneInfo

from fastapi import Depends, Request
from sqlalchemy.orm import Session

from app.accounts import cookies, tokens
from app.accounts.models import User
from app.accounts.principals import Principal, principal_of
from app.core.bodies import parse_body
from app.core.database import repeat_once, transaction
from app.core.errors import Refused, RouteNotFound, UnsupportedMediaType
from app.core.links import base_url
from app.core.refusals import FORM_EXPIRED, UNSUPPORTED_FILE_TYPE
from app.core.security import parse_token, random_text
from app.core.settings import get_settings
from app.core.validation import Model, read
from app.files import uploads
from app.web import words

TOKEN_FIELD = "form_token"  # noqa: S105 - a field's name
_VISITOR_LENGTH = 32
_TOKEN_LENGTH = 40
SIGN_IN = "/sign-in"


class SignInNeeded(Exception):  # noqa: N818 - leads to a page
    """The page is for somebody who is signed in."""


def ticked(boxes: Any) -> list[Any]:
    """What a form has of fields with names like `name[]`, but for empty ones."""
    return [each for each in boxes if each] if isinstance(boxes, list) else []


@dataclass(slots=True)
class Visit:
    """One request of a browser. `form` is what it posted, without the token."""

    request: Request
    anchor: str
    new_anchor: bool = False
    principal: Principal | None = None
    user: User | None = None
    form: dict[str, Any] = field(default_factory=dict)
    wanted_language: str | None = None

    @property
    def me(self) -> Principal:
        assert self.principal is not None
        return self.principal

    @property
    def account(self) -> User:
        assert self.user is not None
        return self.user

    @property
    def language(self) -> str:
        return words.chosen(self.wanted_language, self.request.headers.get("accept-language", ""))

    @property
    def zone(self) -> ZoneInfo:
        """The account's clock."""
        return ZoneInfo((self.user and self.user.time_zone) or "UTC")

    @property
    def form_token(self) -> str:
        """What this browser's forms carry; another site can neither read nor guess it."""
        return hmac.new(self.anchor.encode(), b"form", hashlib.sha256).hexdigest()[:_TOKEN_LENGTH]

    @property
    def is_htmx(self) -> bool:
        return "hx-request" in self.request.headers

    @property
    def client(self) -> str | None:
        """What the browser calls itself, as a session's name."""
        return self.request.headers.get("user-agent")

    def given(self, name: str) -> str:
        """A field of the form, as text."""
        value = self.form.get(name)
        return value if isinstance(value, str) else ""

    def nested(self, name: str) -> dict[str, Any]:
        """The fields of the form that have names like `name[part]`."""
        value = self.form.get(name)
        return value if isinstance(value, dict) else {}

    def listed(self, name: str) -> list[Any]:
        """The fields of the form that have names like `name[]`, but for empty ones."""
        return ticked(self.form.get(name))

    def moment(self, name: str) -> str:
        """A time that was typed by the account's clock, as the schemas read it; as it is where it is none."""
        typed = self.given(name)
        try:
            return datetime.fromisoformat(typed).replace(tzinfo=self.zone).isoformat() if typed else ""
        except ValueError:
            return typed

    def end_of_day(self, name: str) -> str:
        """As `moment`, the last one of a day that was typed."""
        typed = self.given(name)
        try:
            return datetime.combine(date.fromisoformat(typed), time.max, self.zone).isoformat()
        except ValueError:
            return typed

    def changed(self) -> dict[str, Any]:
        """The fields of the form that are not as the page showed them, by its fields `was[…]`.

        The page may be an old one, and what it showed be something else by now.
        """
        return _changed({name: value for name, value in self.form.items() if name != "was"}, self.nested("was"))

    def read(self, model: type[Model]) -> Model:
        """The form as a request's body. Raises `Invalid`."""
        return read(model, self.form)

    def query(self, name: str) -> str:
        return self.request.query_params.get(name, "")


def _changed(typed: Mapping[str, Any], was: Mapping[str, Any]) -> dict[str, Any]:
    changed: dict[str, Any] = {}
    for name, value in typed.items():
        before = was.get(name)
        if isinstance(value, dict):
            if inner := _changed(value, before if isinstance(before, dict) else {}):
                changed[name] = inner
        elif value != before:
            changed[name] = value
    return changed


def _visit(request: Request) -> Visit:
    session_cookie = cookies.read(request.scope, cookies.SESSION)
    visit = stranger(request)
    if session_cookie and (found := _account_of(session_cookie)):
        visit.principal, visit.user = found
        visit.anchor, visit.new_anchor, visit.wanted_language = session_cookie, False, visit.user.language
    return visit


def _account_of(session_cookie: str) -> tuple[Principal, User] | None:
    """Who is signed in with the cookie."""
    credentials = parse_token(session_cookie)
    if credentials is None:
        return None

    def read_rows() -> tuple[Principal, User] | None:
        with transaction(hot=True, autocommit=True) as session:
            principal = principal_of(session, credentials)
            if principal is None or principal.kind != "session":
                return None
            return principal, session.get_one(User, principal.user_id)

    return repeat_once(read_rows)


def stranger(request: Request) -> Visit:
    """Whoever it is."""
    visitor = cookies.read(request.scope, cookies.VISITOR)
    return Visit(request, visitor or random_text(_VISITOR_LENGTH), new_anchor=visitor is None)


def anybody(request: Request) -> Visit:
    """A page for everybody."""
    return _visit(request)


def signed_in(request: Request) -> Visit:
    """A page of somebody who is signed in."""
    visit = _visit(request)
    if visit.principal is None:
        raise SignInNeeded
    return visit


def operator(request: Request) -> Visit:
    """A page of operators; nobody else learns that it exists."""
    visit = _visit(request)
    if visit.user is None or not visit.user.is_operator:
        raise RouteNotFound(request.url.path)
    return visit


def anybody_posts(request: Request) -> Visit:
    """A form for everybody. Raises `Refused` where it did not come from a page of ours."""
    return posted(_visit(request))


def posts(request: Request) -> Visit:
    """A form of somebody who is signed in."""
    return posted(signed_in(request))


def operator_posts(request: Request) -> Visit:
    """A form of an operator's."""
    return posted(operator(request))


def posted(visit: Visit) -> Visit:
    """`visit` with the form that came with it. Raises `Refused` where it is not from a page of ours."""
    refuse_elsewhere(visit.request)
    state = visit.request.state
    if state.body_error is not None:
        raise state.body_error
    form = parse_body(state.raw_body, state.content_type)
    visit.form = {name: _typed(value) for name, value in form.items()} if isinstance(form, Mapping) else {}
    _check_token(visit, visit.form.pop(TOKEN_FIELD, None))
    return visit


def has_file(visit: Visit) -> bool:
    """Whether a file came with the form, which `posted_file` opens."""
    return visit.request.state.body_error is None and visit.request.state.file is not None


@contextmanager
def posted_file(visit: Visit) -> Iterator[uploads.Upload]:
    """The file that came with a form, and the form's other fields. Raises as `posted`, and where there is no file."""
    refuse_elsewhere(visit.request)
    state = visit.request.state
    if state.body_error is not None:
        raise state.body_error
    if state.file is None:
        raise UnsupportedMediaType(UNSUPPORTED_FILE_TYPE)
    with uploads.opened(state.file, state.content_type) as upload:
        fields = dict(upload.fields)
        _check_token(visit, fields.pop(TOKEN_FIELD, None))
        yield replace(upload, fields=fields)


def _typed(value: Any) -> Any:
    # Browsers send the line ends of a form as two characters, which would be counted and sent.
    return value.replace("\r\n", "\n") if isinstance(value, str) else value


def refuse_elsewhere(request: Request, *, certainly: bool = False) -> None:
    """Raises `Refused` for a form that came from another site; `certainly`: also for one that does not say."""
    if not _same_site(request, otherwise=not certainly):
        raise Refused(FORM_EXPIRED)


def _check_token(visit: Visit, given: object) -> None:
    """Raises `Refused` for a form that is not of this browser."""
    if not isinstance(given, str) or not hmac.compare_digest(given.encode(), visit.form_token.encode()):
        raise Refused(FORM_EXPIRED)


def _same_site(request: Request, *, otherwise: bool) -> bool:
    """Whether the browser says that the request comes from a page of ours; those that say nothing have the token."""
    site = request.headers.get("sec-fetch-site")
    if site is not None:
        return site == "same-origin"
    origin = request.headers.get("origin")
    if origin is None:
        return otherwise
    ours = {urlsplit(base_url(request.scope)).netloc, request.headers.get("host")}
    return urlsplit(origin).netloc in ours


def sign_in_path(request: Request) -> str:
    """The sign-in page, from which a browser comes back to the page it asked for, or was on."""
    # A part of a page is no place to come back to, and what takes a form is none.
    asked = str(request.url) if request.method == "GET" else request.headers.get("referer", "")
    try:
        url = urlsplit(request.headers.get("hx-current-url", asked))
    except ValueError:
        return SIGN_IN
    place = url.path + (f"?{url.query}" if url.query else "")
    return SIGN_IN if place in {"", "/"} else f"{SIGN_IN}?next={quote(place, safe='/')}"


def own_path(path: str) -> str:
    """`path` where it leads to a page of ours, else the front."""
    is_ours = path.startswith("/") and not path.startswith(("//", "/\\")) and path.isprintable()
    return path if is_ours else "/"


def session_cookie(visit: Visit, token: tokens.NewToken) -> tuple[str, str, int]:
    """Name, value and life of the cookie of a session that begins. The session itself may end before."""
    lasts = int(get_settings().session_lifetime.total_seconds())
    return cookies.name(visit.request.scope, cookies.SESSION), token.plain, lasts


Anybody = Annotated[Visit, Depends(anybody)]
SignedIn = Annotated[Visit, Depends(signed_in)]
Operator = Annotated[Visit, Depends(operator)]
AnybodyPosts = Annotated[Visit, Depends(anybody_posts)]
Posts = Annotated[Visit, Depends(posts)]
OperatorPosts = Annotated[Visit, Depends(operator_posts)]


def user_of(session: Session, visit: Visit) -> User:
    """The account's row in this transaction."""
    return session.get_one(User, visit.me.user_id)
