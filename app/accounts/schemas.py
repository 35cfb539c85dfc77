"""What accounts' routes take and answer."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, Field, ValidationInfo

from app.accounts.audit import Action
from app.accounts.principals import Ability
from app.accounts.second_factor import SECRET_FORM
from app.core.allowed_hours import AllowedHours, ZoneName
from app.core.envelope import Money, Timestamp
from app.core.numbers import is_region
from app.core.pages import MAX_PER_PAGE, PER_PAGE
from app.core.settings import FEATURES, Feature
from app.core.validation import Body, Boolean, Email, Filter, Integer, Moment, Since, Strict, Until, fault

# Of a phone, in seconds between two messages.
MAX_SEND_DELAY = 86_400

Plan = Literal["free", "premium"]


def _confirmed(password: str, info: ValidationInfo) -> str:
    if info.data.get("password_confirmation", password) != password:
        raise fault("The {name} field confirmation does not match.")
    return password


class AuditFilter(Filter):
    action: Action | None = Field(default=None, description="Entries of this action")
    since: Since = None
    until: Until = None
    cursor: Integer | None = Field(default=None, description="Continue after the previous page, with its `next_cursor`")
    per_page: Annotated[Integer, Field(ge=1, le=MAX_PER_PAGE)] = Field(default=PER_PAGE, description="Items per page")


class AuditOut(BaseModel):
    """Something that was done to the account."""

    id: int = Field(examples=[4711])
    action: Action = Field(examples=["key_created"])
    subject: int | None = Field(
        description="The number of what it was done to: a session, key, phone or campaign", examples=[6]
    )
    details: dict[str, Any] = Field(examples=[{"name": "Production server", "abilities": ["sms:send"]}])
    by: str = Field(
        description="Who did it: a `session`, an API `key`, a `visitor` who was not signed in, an `operator`, a"
        " `command` at the operator's terminal, or the `gateway` by itself",
        examples=["session"],
    )
    token_id: int | None = Field(description="The number of that session or key", examples=[9])
    address: str | None = Field(description="The network address it came from", examples=["203.0.113.7"])
    created_at: Timestamp


class AuditPage(BaseModel):
    """A page of the audit log, newest first."""

    data: list[AuditOut]
    next_cursor: int | None = Field(description="`cursor` of the next page; null at the end", examples=[4660])
    per_page: int = Field(examples=[50])


class Registration(Body):
    name: str = Field(max_length=255, examples=["Ali Valiyev"])
    email: Email = Field(examples=["ali@example.com"])
    # Before the password, whose validator compares with it.
    password_confirmation: str | None = Field(default=None, examples=["correct horse"])
    password: Annotated[str, Field(min_length=6), AfterValidator(_confirmed)] = Field(
        description="At least 6 characters", examples=["correct horse"]
    )


class PasswordChange(Body):
    current_password: Annotated[str, Field(min_length=1)] = Field(examples=["correct horse"])
    password_confirmation: str | None = Field(default=None, examples=["battery staple"])
    password: Annotated[str, Field(min_length=6), AfterValidator(_confirmed)] = Field(examples=["battery staple"])


class ResetRequest(Body):
    email: Email = Field(examples=["ali@example.com"])


class PasswordReset(Body):
    code: str = Field(
        description="From the e-mail; valid once, for 30 minutes",
        examples=["7Hq2mXfZ0aLr9TnWc4Kd1VbYp6Sg8JeUo3Qi5RtMhCx"],
    )
    password_confirmation: str | None = Field(default=None, examples=["battery staple"])
    password: Annotated[str, Field(min_length=6), AfterValidator(_confirmed)] = Field(examples=["battery staple"])


class EmailProof(Body):
    code: str = Field(
        description="From the e-mail; valid once, for 30 minutes",
        examples=["7Hq2mXfZ0aLr9TnWc4Kd1VbYp6Sg8JeUo3Qi5RtMhCx"],
    )


class AccountRemoval(Body):
    current_password: Annotated[str, Field(min_length=1)] | None = Field(
        default=None, description="Required if the account has a password", examples=["correct horse"]
    )
    id_token: Annotated[str, Field(min_length=1)] | None = Field(
        default=None, description="A new Google ID token; required if the account has no password"
    )


class Credentials(Body):
    email: str = Field(examples=["ali@example.com"])
    password: Annotated[str, Field(min_length=1)] = Field(examples=["correct horse"])
    code: Annotated[str, Field(max_length=64)] | None = Field(
        default=None, description="Of the authenticator app, or a recovery code, if the account asks for one"
    )


class SecondFactor(Body):
    """A secret that an authenticator app has taken, and a code of it."""

    secret: Annotated[str, Field(pattern=f"^{SECRET_FORM}$")]
    code: Annotated[str, Field(max_length=64)]


class GoogleToken(Body):
    id_token: str = Field(examples=["eyJhbGciOiJSUzI1NiJ9.eyJlbWFpbCI6ImFsaUBleGFtcGxlLmNvbSJ9.c2lnbmF0dXJl"])


class NewKey(Body):
    name: str = Field(max_length=255, examples=["Production server"])
    abilities: Annotated[list[Ability], Field(max_length=100)] | None = Field(
        default=None, description='What the key may do; absent: `["*"]`', examples=[["sms:send", "sms:read"]]
    )
    expires_at: Moment | None = Field(
        default=None,
        description="When it expires, no later than the API key that creates it; absent: with that key, or never",
    )


class UserBrief(BaseModel):
    id: int = Field(examples=[2])
    name: str = Field(examples=["Ali Valiyev"])
    email: str = Field(examples=["ali@example.com"])


class SignedIn(BaseModel):
    token: str = Field(examples=["10|pQ3kV9sLw2ZtYb7RmXcJ5uN1aHdG8eFoT4iKqCvB6xA"])
    user: UserBrief
    token_type: Literal["Bearer"] = "Bearer"  # noqa: S105 - a scheme's name


class UserOut(UserBrief):
    email_verified_at: Timestamp | None
    plan: Plan = Field(examples=["premium"])
    premium_expires_at: Timestamp | None = Field(examples=["2027-06-08T00:00:00.000000Z"])


class KeyOut(BaseModel):
    id: int = Field(examples=[6])
    name: str = Field(examples=["Production server"])
    abilities: list[str] = Field(examples=[["*"]])
    last_used_at: Timestamp | None
    expires_at: Timestamp | None = Field(examples=[None])
    created_at: Timestamp


class SessionOut(BaseModel):
    id: int = Field(examples=[101])
    name: str = Field(examples=["Ali Valiyev"])
    current: bool = Field(description="Whether this is the session of this request")
    last_used_at: Timestamp | None
    expires_at: Timestamp | None = Field(examples=[None])
    created_at: Timestamp


class KeyCreated(BaseModel):
    id: int = Field(examples=[6])
    name: str = Field(examples=["Production server"])
    token: str = Field(examples=["6|pQ3kV9sLw2ZtYb7RmXcJ5uN1aHdG8eFoT4iKqCvB6xA"])
    abilities: list[str] = Field(examples=[["sms:send", "sms:read"]])
    expires_at: Timestamp | None = Field(examples=[None])
    created_at: Timestamp


def _region(code: str | None) -> str | None:
    if code is not None and not is_region(code.upper()):
        raise fault("The selected {name} is invalid.")
    return code and code.upper()


MAX_COUNTRIES = 300
MAX_KEPT_DAYS = 3650
Region = Annotated[str, Field(max_length=2), AfterValidator(_region)]


class FrequencyCap(Strict):
    """At most `messages` to one number in `days` days, of bulk sends and campaigns together."""

    messages: Annotated[Integer, Field(ge=1, le=1000)] = Field(examples=[3])
    days: Annotated[Integer, Field(ge=1, le=365)] = Field(examples=[7])


class SettingsChange(Body):
    keep_inbound: Boolean = Field(
        default=True, description="Store received messages; webhooks are called either way", examples=[True]
    )
    keep_messages_days: Annotated[Integer, Field(ge=1, le=MAX_KEPT_DAYS)] | None = Field(
        default=None,
        description="Delete sent messages, and recipients of campaigns that are over, after so many days; figures stay."
        " null: as long as the operator keeps them",
    )
    keep_incoming_days: Annotated[Integer, Field(ge=1, le=MAX_KEPT_DAYS)] | None = Field(
        default=None, description="The same of received messages"
    )
    device_events: Boolean = Field(
        default=False, description="Call the status webhook when a phone goes offline or fails, and when it recovers"
    )
    default_region: Annotated[str | None, AfterValidator(_region)] = Field(
        default=None, description="ISO country code used to read numbers without `+`", examples=["UZ"]
    )
    offline_alert_minutes: Annotated[Integer, Field(ge=1, le=10_080)] | None = Field(
        default=None, description="Send an e-mail when a phone has been offline this many minutes; null: never"
    )
    failover: Boolean = Field(
        default=True, description="Retry a message that certainly did not leave its phone on up to two other phones"
    )
    default_send_delay_seconds: Annotated[Integer, Field(ge=0, le=MAX_SEND_DELAY)] = Field(
        default=0, description="`send_delay_seconds` of phones enrolled from now on"
    )
    approve_new_phones: Boolean = Field(default=False, description="New phones wait until you enable them")
    frequency_cap: FrequencyCap | None = Field(
        default=None,
        description="Bulk sends and campaigns leave out who has had this many of them in so many days; null: no cap",
    )
    same_content_minutes: Annotated[Integer, Field(ge=1, le=43_200)] | None = Field(
        default=None,
        description="The same text is not sent to the same number again for this many minutes: a single send is a 409,"
        " bulk sends and campaigns leave the number out; null: never checked",
    )
    sticky_phone: Boolean = Field(
        default=False,
        description="Send to a number through the phone that it last wrote to or was last sent to from, while that"
        " phone is active and online; the default phone is not used then",
    )
    time_zone: ZoneName | None = Field(
        default=None, description="Your time zone; null: UTC", examples=["Asia/Tashkent"]
    )
    country_zones: Annotated[dict[Region, ZoneName], Field(max_length=MAX_COUNTRIES)] | None = Field(
        default=None,
        description="The time zone to assume for numbers of a country with several, where their prefix does not tell",
        examples=[{"US": "America/Chicago"}],
    )
    allowed_hours: AllowedHours | None = Field(
        default=None, description="When bulk messages may go out; they wait for the next opening. null: always"
    )


class SettingsOut(BaseModel):
    keep_inbound: bool = Field(examples=[True])
    keep_messages_days: int | None = Field(examples=[90])
    keep_incoming_days: int | None = Field(examples=[None])
    device_events: bool
    default_region: str | None = Field(examples=["UZ"])
    offline_alert_minutes: int | None = Field(examples=[30])
    failover: bool = Field(examples=[True])
    default_send_delay_seconds: int = Field(examples=[0])
    approve_new_phones: bool = Field(examples=[False])
    frequency_cap: FrequencyCap | None
    same_content_minutes: int | None = Field(examples=[None])
    sticky_phone: bool = Field(examples=[False])
    time_zone: str | None = Field(examples=["Asia/Tashkent"])
    country_zones: dict[str, str] | None = Field(examples=[{"US": "America/Chicago"}])
    allowed_hours: AllowedHours | None


class PromoUse(Body):
    code: str = Field(examples=["SPRING26"])


class Prices(BaseModel):
    monthly: Money = Field(examples=[5])
    yearly: Money = Field(examples=[50])
    currency: str = Field(examples=["USD"])


class SubscriptionOut(BaseModel):
    plan: Plan = Field(examples=["premium"])
    is_premium: bool = Field(examples=[True])
    premium_expires_at: Timestamp | None = Field(examples=["2027-06-08T00:00:00.000000Z"])
    prices: Prices
    features: list[Feature] = Field(examples=[FEATURES])


class Payment(BaseModel):
    wallet_address: str = Field(examples=["TXk3…"])
    asset: str = Field(examples=["USDT"])
    network: str = Field(examples=["TRC20"])
    admin_telegram: str = Field(examples=["@example"])


class SubscriptionWithPayment(SubscriptionOut):
    payment: Payment


class UsageOut(BaseModel):
    total_sms: int = Field(examples=[1200])
    total_spent: Money = Field(examples=[120000])
    today_sms: int = Field(examples=[8])
    today_spent: Money = Field(examples=[800])
    month_sms: int = Field(examples=[240])
    month_spent: Money = Field(examples=[24000])


class AccountStats(BaseModel):
    total_sent: int = Field(examples=[1100])
    total_delivered: int = Field(examples=[1050])
    total_failed: int = Field(examples=[50])
    total_pending: int = Field(examples=[0])
    total_received: int = Field(examples=[30])
    devices: int = Field(examples=[2])
    active_devices: int = Field(examples=[1])


class AccountOut(BaseModel):
    user: UserBrief
    balance: Literal[0] = 0
    sms_rate: Money
    usage: UsageOut
    stats: AccountStats
    subscription: SubscriptionOut
