"""Signing in and out, API keys, and the account: figures, settings, plan."""

from typing import Annotated

from fastapi import APIRouter, BackgroundTasks, Depends, Header

from app.accounts import account, codes, google, ownership, plans, sessions, signin, tokens
from app.accounts.auth import CurrentUser, Principal, can, can_alone, hold
from app.accounts.models import User
from app.accounts.schemas import (
    AccountOut,
    AccountRemoval,
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
from app.core.database import SessionDep, transaction
from app.core.emails import normalize
from app.core.envelope import Done, Envelope, MessageEnvelope
from app.core.errors import Forbidden, Invalid, Unauthenticated, Unavailable
from app.core.settings import get_settings
from app.core.throttling import failures, per_address

router = APIRouter(prefix="/api", tags=["Accounts"])

# Tries a minute.
FAILED_LOGINS = 10
LOGINS_PER_ADDRESS = 100
REGISTRATIONS_PER_ADDRESS = 30
RESETS_PER_ADDRESS = 30

# What the program that signs in calls itself, as a session's name.
Client = Annotated[str | None, Header(alias="User-Agent", include_in_schema=False)]
AccountUserAlone = Annotated[Principal, Depends(can_alone("account"))]
AccountUser = Annotated[Principal, Depends(can("account"))]
KeysUser = Annotated[Principal, Depends(can("tokens"))]
KeyMaker = Annotated[Principal, Depends(can("tokens", "api"))]


@router.post("/register", status_code=201, dependencies=[Depends(per_address("register", REGISTRATIONS_PER_ADDRESS))])
def register(body: Registration, client: Client, later: BackgroundTasks) -> MessageEnvelope[SignedIn]:
    """Create an account and sign in. Where the server sends mail, a code to confirm the address goes out."""
    user, token = signin.register(name=body.name, email=body.email, password=body.password, client=client)
    if get_settings().smtp_url is not None:
        later.add_task(codes.mail_proof, user.id)
    return MessageEnvelope(data=_signed_in(user, token), message="Registration successful")


@router.post("/login", dependencies=[Depends(per_address("login", LOGINS_PER_ADDRESS))])
def login(body: Credentials, client: Client) -> MessageEnvelope[SignedIn]:
    """Sign in with e-mail and password."""
    with failures("failed-login", normalize(body.email), FAILED_LOGINS, Unauthenticated):
        user, token = signin.login(email=body.email, password=body.password, client=client)
    return MessageEnvelope(data=_signed_in(user, token), message="Login successful")


@router.post("/auth/google", dependencies=[Depends(per_address("login", LOGINS_PER_ADDRESS))])
def login_with_google(body: GoogleToken, client: Client) -> MessageEnvelope[SignedIn]:
    """Sign in with the ID token that Google gave your app."""
    identity = google.identify(body.id_token)
    with transaction() as session:
        user, token = google.sign_in(session, identity, client)
    return MessageEnvelope(data=_signed_in(user, token), message="Login successful")


@router.post("/logout")
def logout(session: SessionDep, principal: CurrentUser) -> Done:
    """Revoke the token this request came with."""
    tokens.sign_out(session, principal)
    return Done(message="Logout successful")


@router.get("/user")
def show_user(session: SessionDep, principal: AccountUser) -> Envelope[UserOut]:
    """The signed-in user."""
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


@router.get("/tokens")
def list_keys(session: SessionDep, principal: KeysUser) -> Envelope[list[KeyOut]]:
    """Your API keys. Their secrets are not kept and cannot be shown."""
    rows = tokens.keys(session, principal.user_id)
    return Envelope(data=[KeyOut.model_validate(key, from_attributes=True) for key in rows])


@router.post("/tokens", status_code=201)
def create_key(session: SessionDep, principal: KeyMaker, body: NewKey) -> MessageEnvelope[KeyCreated]:
    """Make an API key. Without `abilities` it may do everything this token may."""
    key = tokens.create_key(session, principal, body.name, body.abilities, body.expires_at)
    data = KeyCreated(
        id=key.id,
        name=key.name,
        token=key.plain,
        abilities=key.abilities,
        expires_at=key.expires_at,
        created_at=key.created_at,
    )
    return MessageEnvelope(data=data, message="API key created. Copy it now — it will not be shown again.")


@router.delete("/tokens/{key_id}")
def revoke_key(session: SessionDep, principal: KeysUser, key_id: str) -> Done:
    """Revoke an API key, at once. One that may do more than the token of this call is not revoked by it."""
    tokens.revoke(session, principal, "key", key_id)
    return Done(message="API key revoked")


@router.get("/sessions")
def list_sessions(session: SessionDep, principal: KeysUser) -> Envelope[list[SessionOut]]:
    """Where you are signed in. `current` is the session of this call."""
    return Envelope(data=[SessionOut(**row) for row in sessions.shown(session, principal)])


@router.delete("/sessions/{session_id}")
def end_session(session: SessionDep, principal: KeysUser, session_id: str) -> Done:
    """Sign out one session, at once."""
    tokens.revoke(session, principal, "session", session_id)
    return Done(message="Session ended")


@router.put("/user/password")
def change_password(principal: AccountUserAlone, body: PasswordChange) -> Done:
    """Change your password. All other sessions end; API keys stay."""
    with failures("password", str(principal.user_id), FAILED_LOGINS, Invalid):
        signin.change_password(principal, body.current_password, body.password)
    return Done(message="Password changed")


@router.post("/forgot-password", dependencies=[Depends(per_address("forgot", RESETS_PER_ADDRESS))])
def forgot_password(body: ResetRequest, later: BackgroundTasks) -> Done:
    """Have a code mailed that sets a new password. The answer is the same whether the address is known or not."""
    _require_mail()
    later.add_task(codes.mail_reset, body.email)
    return Done(message="If there is an account with this address, a code was sent to it.")


@router.post("/reset-password", dependencies=[Depends(per_address("reset", RESETS_PER_ADDRESS))])
def reset_password(body: PasswordReset) -> Done:
    """Set a new password with the code from the mail. All sessions end."""
    codes.reset_password(body.code, body.password)
    return Done(message="Password changed")


@router.post("/user/email/code", dependencies=[Depends(per_address("email-code", RESETS_PER_ADDRESS))])
def send_email_code(principal: AccountUserAlone, later: BackgroundTasks) -> Done:
    """Have a code mailed that confirms your address."""
    _require_mail()
    later.add_task(codes.mail_proof, principal.user_id)
    return Done(message="A code was sent to your address.")


@router.post("/user/email/verify")
def verify_email(session: SessionDep, principal: AccountUser, body: EmailProof) -> Done:
    """Confirm your address with the code from the mail."""
    codes.prove_email(session, principal.user_id, body.code)
    return Done(message="E-mail address confirmed")


@router.delete("/user")
def delete_account(principal: AccountUserAlone, body: AccountRemoval) -> Done:
    """Delete your account with everything in it: messages, contacts, phones, keys. Needs a session and your password;
    without a password a new ID token of the Google account that you sign in with.
    """
    if principal.kind != "session":
        raise Forbidden("Only a session can delete the account: sign in.")
    with failures("password", str(principal.user_id), FAILED_LOGINS, Invalid):
        if body.id_token is not None or signin.confirm(principal.user_id, body.current_password) is None:
            google.confirm(principal.user_id, body.id_token)
    with transaction() as session:
        # Locked before the token, so that of two calls at once the second finds it gone.
        session.get(User, principal.user_id, with_for_update={"key_share": True})
        hold(session, principal)
        ownership.delete_account(session, principal.user_id)
    return Done(message="Account deleted")


@router.get("/account")
def show_account(session: SessionDep, principal: AccountUser) -> Envelope[AccountOut]:
    """Usage, figures and plan at a glance."""
    return Envelope(data=account.overview(session, principal))


@router.get("/balance")
def show_balance(session: SessionDep, principal: AccountUser) -> Envelope[AccountOut]:
    """The same answer as `/api/account`."""
    return Envelope(data=account.overview(session, principal))


@router.get("/settings")
def show_settings(session: SessionDep, principal: AccountUser) -> Envelope[SettingsOut]:
    """The account's settings."""
    user = session.get_one(User, principal.user_id)
    return Envelope(data=SettingsOut.model_validate(user, from_attributes=True))


@router.put("/settings")
@router.patch("/settings")
def change_settings(session: SessionDep, principal: AccountUser, body: SettingsChange) -> MessageEnvelope[SettingsOut]:
    """Change the settings that the request names; null clears one that may be empty."""
    user = session.get_one(User, principal.user_id)
    account.change_settings(user, body.given())
    data = SettingsOut.model_validate(user, from_attributes=True)
    return MessageEnvelope(data=data, message="Settings updated successfully")


@router.get("/subscription")
def show_subscription(session: SessionDep, principal: AccountUser) -> Envelope[SubscriptionWithPayment]:
    """The plan, and how to pay for premium."""
    user = session.get_one(User, principal.user_id)
    return Envelope(data=account.subscription_with_payment(user, is_premium=principal.is_premium))


@router.post("/subscriptions/redeem-promo")
def redeem_promo(
    session: SessionDep, principal: AccountUser, body: PromoUse
) -> MessageEnvelope[SubscriptionWithPayment]:
    """Add a promo code's months to premium."""
    plans.redeem(session, principal.user_id, body.code)
    user = session.get_one(User, principal.user_id, populate_existing=True)
    data = account.subscription_with_payment(user, is_premium=True)
    return MessageEnvelope(data=data, message="Promo code redeemed — Premium activated.")


def _signed_in(user: User, token: tokens.NewToken) -> SignedIn:
    return SignedIn(token=token.plain, user=UserBrief(id=user.id, name=user.name, email=user.email))


def _require_mail() -> None:
    if get_settings().smtp_url is None:
        raise Unavailable("This server cannot send mail: ask who runs it for a new password.")
