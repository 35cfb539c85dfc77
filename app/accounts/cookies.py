"""The cookies of a browser that is signed in: the session's token, and what the forms of a visitor hold on to.

They are the dashboard's alone. The API takes no cookie.
"""

from starlette.requests import cookie_parser
from starlette.types import Scope

from app.core.bodies import header
from app.core.links import base_url

# A prefix that browsers accept over TLS alone, for this host alone.
_HOST = "__Host-"
SESSION = "smsfleet_session"
VISITOR = "smsfleet_visitor"


def is_secure(scope: Scope) -> bool:
    """Whether browsers reach this installation over TLS."""
    return base_url(scope).startswith("https:")


def name(scope: Scope, cookie: str) -> str:
    """What the cookie is called here."""
    return _HOST + cookie if is_secure(scope) else cookie


def read(scope: Scope, cookie: str) -> str | None:
    """The cookie's value, None where the browser sent none."""
    sent = header(scope, b"cookie")
    return cookie_parser(sent).get(name(scope, cookie)) if sent else None
