"""Getting in and out: signing in and out, registering, the operator's link, a forgotten password."""

from fastapi import APIRouter, BackgroundTasks, Depends, Response

from app.accounts import codes, cookies, login_limits, registration, sign_in_links, signin, tokens
from app.accounts.schemas import Credentials, PasswordReset, Registration, ResetRequest
from app.core import operator_link
from app.core.database import transaction
from app.core.dependencies import per_address
from app.core.errors import AppError, Forbidden, Refused
from app.core.mail import require_mail
from app.core.places import mailing
from app.core.refusals import LINK_USED, SECOND_FACTOR_NEEDED, WRONG_SECOND_FACTOR
from app.core.settings import get_settings
from app.web.pages import PageRoute, end_cookie, go, page, set_cookie
from app.web.visits import SIGN_IN, Anybody, AnybodyPosts, Posts, Visit, own_path, session_cookie

router = APIRouter(include_in_schema=False, route_class=PageRoute)

_FIRST_STEPS = "/first-steps"


def _welcome(visit: Visit, token: tokens.NewToken, path: str) -> Response:
    """Into the dashboard, with the cookie of the session that begins."""
    response = go(path)
    _, value, lasts = session_cookie(visit, token)
    set_cookie(visit, response, cookies.SESSION, value, lasts)
    end_cookie(visit, response, cookies.VISITOR)
    return response


def _may_register() -> bool:
    try:
        with transaction() as session:
            registration.refuse_if_closed(session)
    except Forbidden:
        return False
    return True


@router.get(SIGN_IN)
def sign_in_page(visit: Anybody) -> Response:
    if visit.principal is not None:
        return go(own_path(visit.query("next")))
    return _sign_in(visit)


def _sign_in(visit: Visit, error: AppError | None = None) -> Response:
    return page(
        visit,
        "sign_in.html",
        error=error,
        next=visit.given("next") or visit.query("next"),
        may_register=_may_register(),
        needs_code=error is not None and error.refusal in {SECOND_FACTOR_NEEDED, WRONG_SECOND_FACTOR},
    )


@router.post(SIGN_IN, dependencies=[Depends(per_address("login", login_limits.LOGINS_PER_ADDRESS))])
def sign_in(visit: AnybodyPosts) -> Response:
    try:
        wanted = visit.read(Credentials)
        with login_limits.of_address(wanted.email):
            _, token = signin.login(email=wanted.email, password=wanted.password, client=visit.client, code=wanted.code)
    except AppError as error:
        return _sign_in(visit, error)
    return _welcome(visit, token, own_path(visit.given("next")))


@router.post("/sign-out")
def sign_out(visit: Posts) -> Response:
    with transaction() as session:
        tokens.sign_out(session, visit.me)
    response = go(f"{SIGN_IN}?done=signed-out")
    end_cookie(visit, response, cookies.SESSION)
    return response


@router.get("/register")
def register_page(visit: Anybody) -> Response:
    if visit.principal is not None:
        return go("/")
    return page(visit, "register.html", may_register=_may_register())


@router.post("/register", dependencies=[Depends(per_address("register", login_limits.REGISTRATIONS_PER_ADDRESS))])
def register(visit: AnybodyPosts, later: BackgroundTasks) -> Response:
    try:
        wanted = visit.read(Registration)
        user, token = signin.register(
            name=wanted.name, email=wanted.email, password=wanted.password, client=visit.client
        )
    except AppError as error:
        return page(visit, "register.html", error=error, may_register=True)
    if get_settings().smtp_url is not None:
        later.add_task(mailing, codes.mail_proof, user.id)
    return _welcome(visit, token, _FIRST_STEPS)


@router.get(operator_link.PATH + "{secret}")
def start_page(visit: Anybody, secret: str) -> Response:
    return _start(visit, secret)


def _start(visit: Visit, secret: str, error: AppError | None = None) -> Response:
    with transaction() as session:
        if not sign_in_links.is_valid(session, secret):
            raise Refused(LINK_USED)
        owner = sign_in_links.owner(session)
    return page(visit, "start.html", error=error, owner=owner, action=operator_link.PATH + secret)


@router.post(
    operator_link.PATH + "{secret}",
    dependencies=[Depends(per_address("register", login_limits.REGISTRATIONS_PER_ADDRESS))],
)
def start(visit: AnybodyPosts, secret: str) -> Response:
    """Use the operator's link. Only a form does, so that nothing that merely looks at links uses it up."""
    with transaction() as session:
        is_known = sign_in_links.owner(session) is not None
    if is_known:
        return _welcome(visit, sign_in_links.sign_in(secret, visit.client), "/")
    try:
        wanted = visit.read(Registration)
        token = sign_in_links.register(
            secret, name=wanted.name, email=wanted.email, password=wanted.password, client=visit.client
        )
    except AppError as error:
        return _start(visit, secret, error)
    return _welcome(visit, token, _FIRST_STEPS)


@router.get("/forgot-password")
def forgot_page(visit: Anybody) -> Response:
    return page(visit, "forgot.html", has_mail=get_settings().smtp_url is not None, sent=False)


@router.post("/forgot-password", dependencies=[Depends(per_address("forgot", login_limits.RESETS_PER_ADDRESS))])
def forgot(visit: AnybodyPosts, later: BackgroundTasks) -> Response:
    try:
        require_mail()
        wanted = visit.read(ResetRequest)
    except AppError as error:
        return page(visit, "forgot.html", error=error, has_mail=get_settings().smtp_url is not None, sent=False)
    later.add_task(mailing, codes.mail_reset, wanted.email)
    return page(visit, "forgot.html", has_mail=True, sent=True)


@router.get("/reset-password")
def reset_page(visit: Anybody) -> Response:
    return page(visit, "reset.html", code=visit.query("code"))


@router.post("/reset-password", dependencies=[Depends(per_address("reset", login_limits.RESETS_PER_ADDRESS))])
def reset(visit: AnybodyPosts) -> Response:
    try:
        wanted = visit.read(PasswordReset)
        codes.reset_password(wanted.code, wanted.password)
    except AppError as error:
        return page(visit, "reset.html", error=error, code=visit.given("code"))
    return go(f"{SIGN_IN}?done=reset")
