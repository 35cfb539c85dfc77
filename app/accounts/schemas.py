"""What accounts' routes take and answer."""

from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, Field, ValidationInfo

from app.accounts.tokens import Ability
from app.core.envelope import Money, Timestamp
from app.core.numbers import is_region
from app.core.settings import Feature
from app.core.validation import Body, Boolean, Email, Integer, Moment, fault

# Of a phone, in seconds between two messages.
MAX_SEND_DELAY = 86_400

Plan = Literal["free", "premium"]


def _confirmed(password: str, info: ValidationInfo) -> str:
    if info.data.get("password_confirmation", password) != password:
        raise fault("The {name} field confirmation does not match.")
    return password


class Registration(Body):
    name: str = Field(max_length=255)
    email: Email
    # Before the password, whose validator compares with it.
    password_confirmation: str | None = None
    password: Annotated[str, Field(min_length=6), AfterValidator(_confirmed)]


class PasswordChange(Body):
    current_password: Annotated[str, Field(min_length=1)]
    password_confirmation: str | None = None
    password: Annotated[str, Field(min_length=6), AfterValidator(_confirmed)]


class ResetRequest(Body):
    email: Email


class PasswordReset(Body):
    code: str
    password_confirmation: str | None = None
    password: Annotated[str, Field(min_length=6), AfterValidator(_confirmed)]


class EmailProof(Body):
    code: str


class AccountRemoval(Body):
    current_password: Annotated[str, Field(min_length=1)] | None = None
    id_token: Annotated[str, Field(min_length=1)] | None = None


class Credentials(Body):
    email: str
    password: Annotated[str, Field(min_length=1)]


class GoogleToken(Body):
    id_token: str


class NewKey(Body):
    name: str = Field(max_length=255)
    abilities: Annotated[list[Ability], Field(max_length=100)] | None = None
    expires_at: Moment | None = None


class UserBrief(BaseModel):
    id: int
    name: str
    email: str


class SignedIn(BaseModel):
    token: str
    user: UserBrief
    token_type: Literal["Bearer"] = "Bearer"  # noqa: S105 - a scheme's name


class UserOut(UserBrief):
    email_verified_at: Timestamp | None
    plan: Plan
    premium_expires_at: Timestamp | None


class KeyOut(BaseModel):
    id: int
    name: str
    abilities: list[str]
    last_used_at: Timestamp | None
    expires_at: Timestamp | None
    created_at: Timestamp


class SessionOut(BaseModel):
    id: int
    name: str
    current: bool
    last_used_at: Timestamp | None
    expires_at: Timestamp | None
    created_at: Timestamp


class KeyCreated(BaseModel):
    id: int
    name: str
    token: str
    abilities: list[str]
    expires_at: Timestamp | None
    created_at: Timestamp


def _region(code: str | None) -> str | None:
    if code is not None and not is_region(code.upper()):
        raise fault("The selected {name} is invalid.")
    return code and code.upper()


class SettingsChange(Body):
    keep_inbound: Boolean = True
    device_events: Boolean = False
    default_region: Annotated[str | None, AfterValidator(_region)] = None
    offline_alert_minutes: Annotated[Integer, Field(ge=1, le=10_080)] | None = None
    failover: Boolean = True
    default_send_delay_seconds: Annotated[Integer, Field(ge=0, le=MAX_SEND_DELAY)] = 0
    approve_new_phones: Boolean = False


class SettingsOut(BaseModel):
    keep_inbound: bool
    device_events: bool
    default_region: str | None
    offline_alert_minutes: int | None
    failover: bool
    default_send_delay_seconds: int
    approve_new_phones: bool


class PromoUse(Body):
    code: str


class Prices(BaseModel):
    monthly: Money
    yearly: Money
    currency: str


class SubscriptionOut(BaseModel):
    plan: Plan
    is_premium: bool
    premium_expires_at: Timestamp | None
    prices: Prices
    features: list[Feature]


class Payment(BaseModel):
    wallet_address: str
    asset: str
    network: str
    admin_telegram: str


class SubscriptionWithPayment(SubscriptionOut):
    payment: Payment


class UsageOut(BaseModel):
    total_sms: int
    total_spent: Money
    today_sms: int
    today_spent: Money
    month_sms: int
    month_spent: Money


class Stats(BaseModel):
    total_sent: int
    total_delivered: int
    total_failed: int
    total_pending: int
    total_received: int
    devices: int
    active_devices: int


class AccountOut(BaseModel):
    user: UserBrief
    balance: Literal[0] = 0
    sms_rate: Money
    usage: UsageOut
    stats: Stats
    subscription: SubscriptionOut
