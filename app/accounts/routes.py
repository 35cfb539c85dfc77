"""Signing in and out, API keys, and the account: figures, settings, plan."""

from dataclasses import asdict
from typing import Annotated

from fastapi import APIRouter, BackgroundTasks, Depends, Header, Path, Query

from app.accounts import account, audit, codes, deletion, google, login_limits, plans, sessions, signin, tokens
from app.accounts.auth import CurrentUser, can, can_alone
from app.accounts.models import User
from app.accounts.principals import Principal
from app.accounts.schemas import (
    AccountOut,
    AccountRemoval,
    AuditFilter,
    AuditOut,
    AuditPage,
    Credentials,
    EmailProof,
    GoogleToken,
    KeyCreated,
    KeyOut,
    NewKey,
    PasswordChange,
    PasswordReset,
    PromoUse,
    Registration,
    ResetRequest,
    SessionOut,
    SettingsChange,
    SettingsOut,
    SignedIn,
    SubscriptionWithPayment,
    UserBrief,
    UserOut,
)
from app.core.database import transaction
from app.core.dependencies import SessionDep, per_address
from app.core.envelope import Done, Envelope, MessageEnvelope
from app.core.mail import require_mail
from app.core.places import mailing
from app.core.refusals import (
    GOOGLE_UNAVAILABLE,
    INVALID_CREDENTIALS,
    INVALID_GOOGLE_TOKEN,
    KEY_OUTLIVES,
    NO_MAIL,
    NO_PASSWORD,
    OTHER_GOOGLE_ACCOUNT,
    PROMO_UNAVAILABLE,
    REGISTRATION_CLOSED,
    SECOND_FACTOR_NEEDED,
    SESSION_NEEDED,
    WRONG_SECOND_FACTOR,
    refuses,
)
from app.core.settings import get_settings

router = APIRouter(prefix="/api", tags=["Accounts"])

# What an answer's `message` says.
REGISTERED = "Registration successful"
LOGGED_IN = "Login successful"
LOGGED_OUT = "Logout successful"
API_KEY_CREATED = "API key created. Copy it now — it will not be shown again."
API_KEY_REVOKED = "API key revoked"
SESSION_ENDED = "Session ended"
PASSWORD_CHANGED = "Password changed"  # noqa: S105 - a sentence
RESET_CODE_SENT = "If there is an account with this address, a code was sent to it."
CODE_SENT = "A code was sent to your address."
EMAIL_CONFIRMED = "E-mail address confirmed"
ACCOUNT_DELETED = "Account deleted"
SETTINGS_UPDATED = "Settings updated successfully"
PROMO_CODE_REDEEMED = "Promo code redeemed — Premium activated."

# What the program that signs in calls itself, as a session's name.
Client = Annotated[str | None, Header(alias="User-Agent", include_in_schema=False)]
KeyId = Annotated[str, Path(description="The key's number", examples=["6"], json_schema_extra={"model": tokens.MODEL})]
SessionId = Annotated[
    str, Path(description="The session's number", examples=["9"], json_schema_extra={"model": tokens.MODEL})
]
AccountUserAlone = Annotated[Principal, Depends(can_alone("account"))]
AccountUser = Annotated[Principal, Depends(can("account"))]
KeysUser = Annotated[Principal, Depends(can("tokens"))]
KeyMaker = Annotated[Principal, Depends(can("tokens", "api"))]


@router.post(
    "/register",
    status_code=201,
    dependencies=[Depends(per_address("register", login_limits.REGISTRATIONS_PER_ADDRESS))],
    response_description=REGISTERED,
    responses={**refuses(403, REGISTRATION_CLOSED), **refuses(429)},
)
def register(body: Registration, later: BackgroundTasks, client: Client = None) -> MessageEnvelope[SignedIn]:
    """Create an account and sign in. If the server sends mail, it sends a code to confirm the address."""
    user, token = signin.register(name=body.name, email=body.email, password=body.password, client=client)
    if get_settings().smtp_url is not None:
        later.add_task(mailing, codes.mail_proof, user.id)
    return MessageEnvelope(data=_signed_in(user, token), message=REGISTERED)


@router.post(
    "/login",
    dependencies=[Depends(per_address("login", login_limits.LOGINS_PER_ADDRESS))],
    summary="Sign in",
    response_description=LOGGED_IN,
    responses={
        **refuses(401, INVALID_CREDENTIALS, SECOND_FACTOR_NEEDED, WRONG_SECOND_FACTOR),
        **refuses(429),
    },
)
def login(body: Credentials, client: Client = None) -> MessageEnvelope[SignedIn]:
    """Sign in with e-mail and password."""
    with login_limits.of_address(body.email):
        user, token = signin.login(email=body.email, password=body.password, client=client, code=body.code)
    return MessageEnvelope(data=_signed_in(user, token), message=LOGGED_IN)


@router.post(
    "/auth/google",
    dependencies=[Depends(per_address("login", login_limits.LOGINS_PER_ADDRESS))],
    summary="Sign in with Google",
    response_description=LOGGED_IN,
    responses={
        **refuses(401, INVALID_GOOGLE_TOKEN),
        **refuses(403, REGISTRATION_CLOSED),
        **refuses(422, OTHER_GOOGLE_ACCOUNT),
        **refuses(429),
        **refuses(503, GOOGLE_UNAVAILABLE),
    },
)
def login_with_google(body: GoogleToken, client: Client = None) -> MessageEnvelope[SignedIn]:
    """Sign in with the ID token your app received from Google."""
    identity = google.identify(body.id_token)
    with transaction() as session:
        user, token = google.sign_in(session, identity, client)
    return MessageEnvelope(data=_signed_in(user, token), message=LOGGED_IN)


@router.post("/logout", summary="Sign out", response_description=LOGGED_OUT)
def logout(session: SessionDep, principal: CurrentUser) -> Done:
    """Revoke the token used for this request."""
    tokens.sign_out(session, principal)
    return Done(message=LOGGED_OUT)


@router.get("/user")
def show_user(session: SessionDep, principal: AccountUser) -> Envelope[UserOut]:
    """Show the signed-in user."""
    user = session.get_one(User, principal.user_id)
    plan = "premium" if principal.is_premium else "free"
    return Envelope(
        data=UserOut(
            id=user.id,
            name=user.name,
            email=user.email,
            email_verified_at=user.email_verified_at,
            plan=plan,
            premium_expires_at=user.premium_expires_at,
        )
    )


@router.get("/tokens", summary="List API keys")
def list_keys(session: SessionDep, principal: KeysUser) -> Envelope[list[KeyOut]]:
    """List your API keys. Secrets are stored hashed and cannot be shown again."""
    rows = tokens.keys(session, principal.user_id)
    return Envelope(data=[KeyOut.model_validate(key, from_attributes=True) for key in rows])


@router.post(
    "/tokens",
    status_code=201,
    summary="Create an API key",
    response_description=API_KEY_CREATED,
    responses=refuses(403, KEY_OUTLIVES),
)
def create_key(session: SessionDep, principal: KeyMaker, body: NewKey) -> MessageEnvelope[KeyCreated]:
    """Create an API key. Without `abilities` it may do everything."""
    key = tokens.create_key(session, principal, body.name, body.abilities, body.expires_at)
    data = KeyCreated(
        id=key.id,
        name=key.name,
        token=key.plain,
        abilities=key.abilities,
        expires_at=key.expires_at,
        created_at=key.created_at,
    )
    return MessageEnvelope(data=data, message=API_KEY_CREATED)


@router.delete("/tokens/{key_id}", summary="Revoke an API key", response_description=API_KEY_REVOKED)
def revoke_key(session: SessionDep, principal: KeysUser, key_id: KeyId) -> Done:
    """Revoke an API key at once. A token cannot revoke a key that may do more than itself."""
    tokens.revoke(session, principal, "key", key_id)
    return Done(message=API_KEY_REVOKED)


@router.get("/sessions", summary="List sessions")
def list_sessions(session: SessionDep, principal: KeysUser) -> Envelope[list[SessionOut]]:
    """List where you are signed in."""
    return Envelope(data=[SessionOut(**row) for row in sessions.shown(session, principal)])


@router.delete("/sessions/{session_id}", summary="End a session", response_description=SESSION_ENDED)
def end_session(session: SessionDep, principal: KeysUser, session_id: SessionId) -> Done:
    """End a session at once."""
    tokens.revoke(session, principal, "session", session_id)
    return Done(message=SESSION_ENDED)


@router.put(
    "/user/password",
    summary="Change password",
    response_description=PASSWORD_CHANGED,
    responses={**refuses(422, NO_PASSWORD), **refuses(429)},
)
def change_password(principal: AccountUserAlone, body: PasswordChange) -> Done:
    """Change your password. All other sessions end; API keys remain valid."""
    signin.change_password(principal, body.current_password, body.password)
    return Done(message=PASSWORD_CHANGED)


@router.post(
    "/forgot-password",
    dependencies=[Depends(per_address("forgot", login_limits.RESETS_PER_ADDRESS))],
    summary="Request a password reset code",
    response_description=RESET_CODE_SENT,
    responses={**refuses(429), **refuses(503, NO_MAIL)},
)
def forgot_password(body: ResetRequest, later: BackgroundTasks) -> Done:
    """E-mail a code for setting a new password. The answer does not reveal whether the address is known."""
    require_mail()
    later.add_task(mailing, codes.mail_reset, body.email)
    return Done(message=RESET_CODE_SENT)


@router.post(
    "/reset-password",
    dependencies=[Depends(per_address("reset", login_limits.RESETS_PER_ADDRESS))],
    summary="Reset password",
    response_description=PASSWORD_CHANGED,
    responses=refuses(429),
)
def reset_password(body: PasswordReset) -> Done:
    """Set a new password with the code from the e-mail. All sessions end."""
    codes.reset_password(body.code, body.password)
    return Done(message=PASSWORD_CHANGED)


@router.post(
    "/user/email/code",
    dependencies=[Depends(per_address("email-code", login_limits.RESETS_PER_ADDRESS))],
    summary="Request a confirmation code",
    response_description=CODE_SENT,
    responses={**refuses(429), **refuses(503, NO_MAIL)},
)
def send_email_code(principal: AccountUserAlone, later: BackgroundTasks) -> Done:
    """E-mail a code that confirms your address."""
    require_mail()
    later.add_task(mailing, codes.mail_proof, principal.user_id)
    return Done(message=CODE_SENT)


@router.post("/user/email/verify", summary="Confirm e-mail address", response_description=EMAIL_CONFIRMED)
def verify_email(session: SessionDep, principal: AccountUser, body: EmailProof) -> Done:
    """Confirm your address with the code from the e-mail."""
    codes.prove_email(session, principal.user_id, body.code)
    return Done(message=EMAIL_CONFIRMED)


@router.delete(
    "/user",
    summary="Delete account",
    response_description=ACCOUNT_DELETED,
    responses={**refuses(403, SESSION_NEEDED), **refuses(429), **refuses(503, GOOGLE_UNAVAILABLE)},
)
def delete_account(principal: AccountUserAlone, body: AccountRemoval) -> Done:
    """Delete your account with all its messages, contacts, phones and keys. Requires a session and your password;
    without a password, a new ID token of the Google account you sign in with.
    """
    deletion.delete_account(principal, body.current_password, body.id_token)
    return Done(message=ACCOUNT_DELETED)


@router.get("/account")
def show_account(session: SessionDep, principal: AccountUser) -> Envelope[AccountOut]:
    """Show usage, figures and plan."""
    return Envelope(data=account.overview(session, principal))


@router.get("/balance", summary="Show account (as balance)")
def show_balance(session: SessionDep, principal: AccountUser) -> Envelope[AccountOut]:
    """The same answer as `/api/account`."""
    return Envelope(data=account.overview(session, principal))


@router.get("/settings")
def show_settings(session: SessionDep, principal: AccountUser) -> Envelope[SettingsOut]:
    """Show the account's settings."""
    user = session.get_one(User, principal.user_id)
    return Envelope(data=SettingsOut.model_validate(user, from_attributes=True))


@router.put("/settings", response_description=SETTINGS_UPDATED)
@router.patch("/settings", summary="Change settings (PATCH)", response_description=SETTINGS_UPDATED)
def change_settings(session: SessionDep, principal: AccountUser, body: SettingsChange) -> MessageEnvelope[SettingsOut]:
    """Change the given settings; null clears an optional one."""
    user = session.get_one(User, principal.user_id)
    account.change_settings(session, user, body.given())
    data = SettingsOut.model_validate(user, from_attributes=True)
    return MessageEnvelope(data=data, message=SETTINGS_UPDATED)


@router.get("/audit", summary="List the audit log")
def list_audit(
    session: SessionDep, principal: AccountUser, wanted: Annotated[AuditFilter, Query()]
) -> Envelope[AuditPage]:
    """List what was done to your account, by whom and from where, newest first."""
    found, cursor = audit.entries(
        session,
        principal.user_id,
        most=wanted.per_page,
        before=wanted.cursor,
        action=wanted.action,
        since=wanted.since,
        until=wanted.until,
    )
    data = [_audit_entry(entry, principal.user_id) for entry in found]
    return Envelope(data=AuditPage(data=data, next_cursor=cursor, per_page=wanted.per_page))


def _audit_entry(entry: audit.Entry, user_id: int) -> AuditOut:
    shown = audit.as_its_owner_sees(entry, user_id)
    return AuditOut.model_validate(asdict(shown) | {"details": entry.details or {}})


@router.get("/subscription")
def show_subscription(session: SessionDep, principal: AccountUser) -> Envelope[SubscriptionWithPayment]:
    """Show the plan, and how to pay for premium."""
    user = session.get_one(User, principal.user_id)
    return Envelope(data=account.subscription_with_payment(user, is_premium=principal.is_premium))


@router.post(
    "/subscriptions/redeem-promo", response_description=PROMO_CODE_REDEEMED, responses=refuses(422, PROMO_UNAVAILABLE)
)
def redeem_promo(
    session: SessionDep, principal: AccountUser, body: PromoUse
) -> MessageEnvelope[SubscriptionWithPayment]:
    """Extend premium by a promo code's months."""
    plans.redeem(session, principal.user_id, body.code)
    user = session.get_one(User, principal.user_id, populate_existing=True)
    data = account.subscription_with_payment(user, is_premium=True)
    return MessageEnvelope(data=data, message=PROMO_CODE_REDEEMED)


def _signed_in(user: User, token: tokens.NewToken) -> SignedIn:
    return SignedIn(token=token.plain, user=UserBrief(id=user.id, name=user.name, email=user.email))
