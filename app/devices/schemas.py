"""What the routes of phones take and answer."""

from decimal import Decimal
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, Field

from app.accounts.schemas import MAX_SEND_DELAY
from app.core.envelope import Money, Timestamp
from app.core.validation import Body, Boolean, Integer, Price, Strict, fault
from app.devices.condition import State
from app.devices.figures import Brief

HIGHEST_LIMIT = 1_000_000

Limit = Annotated[Integer, Field(ge=1, le=HIGHEST_LIMIT)]
Delay = Annotated[Integer, Field(ge=0, le=MAX_SEND_DELAY)]
SimSlot = Annotated[Integer, Field(ge=0, le=2)]
SimSelection = Literal["default", "alternate"]


class SimLimits(Strict):
    """How many SMS segments may be given out in a minute, an hour, a day and 30 days, and to how many recipients."""

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
    """The body of `PUT` and `PATCH`: what is named is changed."""

    device_name: Annotated[str, Field(max_length=255)] = ""
    phone_number: Annotated[str, Field(max_length=64)] | None = None
    is_active: Boolean = True
    sms_rate: Price = Decimal(0)
    send_delay_seconds: Delay = 0
    send_delay_spread_seconds: Delay = 0
    default_sim_slot: SimSlot = 0
    sim_selection: SimSelection = "default"
    limits: Limits | None = None


def _reference(value: Any) -> Any:
    # Nothing is refused here too: the union behind would tell of each of its types.
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise fault("The selected {name} is invalid.")
    return value


class DefaultDevice(Body):
    device_id: Annotated[int | str, BeforeValidator(_reference)]


class DefaultDeviceOut(BaseModel):
    id: int
    device_name: str
    is_default: Literal[True] = True


class DeviceOut(BaseModel):
    """A phone as its owner sees it. `battery` is in per cent; `limits` has only what is set.

    `state` in one word, with a `hint` where something is to be done: `failing` has lost its turn, `quiet` accepts
    messages and sends none.
    """

    id: int
    device_id: str
    device_name: str
    phone_number: str | None
    is_active: bool
    awaits_approval: bool
    is_default: bool
    sms_rate: Money
    send_delay_seconds: int
    send_delay_spread_seconds: int
    default_sim_slot: int
    sim_selection: SimSelection
    limits: dict[str, Any]
    online: bool
    last_seen_at: Timestamp | None
    state: State
    hint: str | None
    failing_since: Timestamp | None
    battery: int | None
    app_version: str | None
    today: Brief
    created_at: Timestamp


class AndroidLimit(BaseModel):
    """Android's own limit on SMS: why to mind it, the commands that lift it, and the delay that keeps below it."""

    advice: str
    commands: list[str]
    recommended_send_delay_seconds: int


class Enrollment(BaseModel):
    """What an owner types into the app, shown this once. `qr_svg` holds the address and the token, one a line.

    `warning` says so where no phone can reach the address.
    """

    server_url: str
    warning: str | None
    private_token: str
    qr_svg: str
    steps: list[str]
    android_limit: AndroidLimit
