"""What the routes of phones take and answer."""

from decimal import Decimal
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, Field

from app.accounts.schemas import MAX_SEND_DELAY
from app.core.envelope import Money, Timestamp
from app.core.validation import Body, Boolean, Integer, Price, Strict, fault
from app.devices.condition import State
from app.devices.figures import DeviceToday

HIGHEST_LIMIT = 1_000_000

Limit = Annotated[Integer, Field(ge=1, le=HIGHEST_LIMIT)]
Delay = Annotated[Integer, Field(ge=0, le=MAX_SEND_DELAY)]
SimSlot = Annotated[Integer, Field(ge=0, le=2)]
SimSelection = Literal["default", "alternate"]


class SimLimits(Strict):
    """Maximum SMS parts per minute, hour, day and 30 days, and maximum recipients in 30 days."""

    per_minute: Limit | None = None
    per_hour: Limit | None = None
    per_day: Limit | None = None
    per_month: Limit | None = None
    recipients_per_month: Limit | None = None


class Limits(SimLimits):
    """Limits of a phone, and of each of its SIM cards by slot."""

    sims: dict[Literal["0", "1", "2"], SimLimits] = Field(default_factory=dict)

    def stored(self) -> dict[str, Any]:
        """Without what is not set."""
        sims = {slot: limits.model_dump(exclude_none=True) for slot, limits in self.sims.items()}
        own = self.model_dump(exclude_none=True, exclude={"sims"})
        kept = {slot: limits for slot, limits in sims.items() if limits}
        return {**own, "sims": kept} if kept else own


class DeviceChange(Body):
    """Settings to change."""

    device_name: Annotated[str, Field(max_length=255)] = Field(default="", examples=["Pixel 7, front desk"])
    phone_number: Annotated[str, Field(max_length=64)] | None = None
    is_active: Boolean = Field(
        default=True, description="Whether the phone may be used; only you change it, it does not follow `online`"
    )
    sms_rate: Price = Field(
        default=Decimal(0), description="Price of a message through this phone if the send names none"
    )
    send_delay_seconds: Delay = Field(default=0, description="Minimum seconds between two messages", examples=[5])
    send_delay_spread_seconds: Delay = Field(default=0, description="Random extra delay, up to this many seconds")
    default_sim_slot: SimSlot = Field(default=0, description="Which SIM card sends, from 0")
    sim_selection: SimSelection = "default"
    limits: Limits | None = None


def _reference(value: Any) -> Any:
    # Nothing is refused here too: the union behind would tell of each of its types.
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise fault("The selected {name} is invalid.")
    return value


class DefaultDevice(Body):
    device_id: Annotated[int | str, BeforeValidator(_reference)] = Field(examples=[5])


class DefaultDeviceOut(BaseModel):
    id: int = Field(examples=[5])
    device_name: str = Field(examples=["Pixel 7"])
    is_default: Literal[True] = True


class DeviceOut(BaseModel):
    """A phone as its owner sees it."""

    id: int = Field(examples=[5])
    device_id: str = Field(examples=["Zk3vQ0aP8mT1xY7nB5cR2"])
    device_name: str = Field(examples=["Pixel 7"])
    phone_number: str | None = Field(examples=["+12025550123"])
    is_active: bool = Field(examples=[True])
    awaits_approval: bool = Field(examples=[False])
    is_default: bool = Field(examples=[True])
    sms_rate: Money
    send_delay_seconds: int = Field(examples=[5])
    send_delay_spread_seconds: int = Field(examples=[0])
    default_sim_slot: int = Field(examples=[0])
    sim_selection: SimSelection
    limits: dict[str, Any] = Field(description="Only the limits that are set", examples=[{"per_day": 200}])
    online: bool = Field(examples=[True])
    last_seen_at: Timestamp | None
    state: State = Field(
        description="`online`, `offline`, `disabled` by you, `failing` (most of its last messages failed) or `quiet`"
        " (it accepts messages and sends none)",
        examples=["online"],
    )
    hint: str | None = Field(description="What to do about the state, if anything", examples=[None])
    failing_since: Timestamp | None = Field(examples=[None])
    battery: int | None = Field(description="Per cent", examples=[87])
    app_version: str | None = Field(examples=["1.68.0"])
    today: DeviceToday = Field(description="Today's figures, in UTC")
    created_at: Timestamp


class AndroidLimit(BaseModel):
    """Android's own limit on SMS: advice, the commands that lift it, and a delay that stays below it."""

    advice: str = Field(examples=["Android lets an app send about 30 SMS parts in 30 minutes."])
    commands: list[str] = Field(examples=[["adb shell settings put global sms_outgoing_check_max_count 100000"]])
    recommended_send_delay_seconds: int = Field(examples=[60])


class Enrollment(BaseModel):
    """What to type into the app; shown only once."""

    server_url: str = Field(examples=["https://sms.example.com/api/mobile/v1"])
    warning: str | None = Field(description="Set if no phone can reach the address", examples=[None])
    private_token: str = Field(examples=["7|pQ3kV9sLw2ZtYb7RmXcJ5uN1aHdG8eFoT4iKqCvB6xA"])
    qr_svg: str = Field(
        description="A QR code of the address and the token, one per line",
        examples=['<svg xmlns="http://www.w3.org/2000/svg">…</svg>'],
    )
    steps: list[str] = Field(examples=[["Open the app and its settings", "Enter the address and the token"]])
    android_limit: AndroidLimit
