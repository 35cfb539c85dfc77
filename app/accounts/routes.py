"""Signing in and out, API keys, and the account: figures, settings, plan."""

from typing import Annotated

from fastapi import APIRouter, Depends

from app.accounts import account, google, plans, signin, tokens
from app.accounts.auth import CurrentUser, Principal, can
from app.accounts.models import User
from app.accounts.schemas import (
    AccountOut,
    Credentials,
    GoogleToken,
    KeyCreated,
    KeyOut,
    NewKey,
    PromoUse,
    Registration,
    SettingsChange,
    SettingsOut,
    SignedIn,
    SubscriptionWithPayment,
    UserBrief,
    UserOut,
)
from app.core.database import SessionDep, transaction
from app.core.envelope import Done, Envelope, MessageEnvelope
from app.core.errors import Unauthenticated
from app.core.limits import failures, per_address

router = APIRouter(prefix="/api", tags=["Accounts"])

# Tries a minute.
FAILED_LOGINS = 10
LOGINS_PER_ADDRESS = 100
REGISTRATIONS_PER_ADDRESS = 30

AccountUser = Annotated[Principal, Depends(can("account"))]
KeysUser = Annotated[Principal, Depends(can("tokens"))]
KeyMaker = Annotated[Principal, Depends(can("tokens", "api"))]


@router.post("/register", status_code=201, dependencies=[Depends(per_address("register", REGISTRATIONS_PER_ADDRESS))])
def register(session: SessionDep, body: Registration) -> MessageEnvelope[SignedIn]:
    """Create an account and sign in."""
    user, token = signin.register(session, name=body.name, email=body.email, password=body.password)
    return MessageEnvelope(data=_signed_in(user, token), message="Registration successful")


@router.post("/login", dependencies=[Depends(per_address("login", LOGINS_PER_ADDRESS))])
def login(body: Credentials) -> MessageEnvelope[SignedIn]:
    """Sign in with e-mail and password."""
    with failures("failed-login", body.email.lower(), FAILED_LOGINS, Unauthenticated):
        user, token = signin.login(email=body.email, password=body.password)
    return MessageEnvelope(data=_signed_in(user, token), message="Login successful")


@router.post("/auth/google", dependencies=[Depends(per_address("login", LOGINS_PER_ADDRESS))])
def login_with_google(body: GoogleToken) -> MessageEnvelope[SignedIn]:
    """Sign in with the ID token that Google gave your app."""
    identity = google.identify(body.id_token)
    with transaction() as session:
        user, token = google.sign_in(session, identity)
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
            id=user.id, name=user.name, email=user.email, plan=plan, premium_expires_at=user.premium_expires_at
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
    """Revoke an API key, at once."""
    tokens.revoke_key(session, principal.user_id, key_id)
    return Done(message="API key revoked")


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
