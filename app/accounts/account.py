"""The account as its owner sees it: figures, plan, settings."""

from collections.abc import Mapping
from dataclasses import asdict
from decimal import Decimal
from typing import Any

from sqlalchemy import func, text
from sqlalchemy.orm import Session

from app.accounts import audit, usage
from app.accounts.audit import Action
from app.accounts.models import User
from app.accounts.principals import Principal
from app.accounts.schemas import (
    AccountOut,
    AccountStats,
    FrequencyCap,
    Payment,
    Prices,
    SubscriptionOut,
    SubscriptionWithPayment,
    UsageOut,
    UserBrief,
)
from app.accounts.usage import UsageKind
from app.core.allowed_hours import AllowedHours
from app.core.errors import Invalid
from app.core.settings import FEATURES, get_settings

# By name: the devices' own module lies above this one.
_DEVICES = text("""
    SELECT count(*), count(*) FILTER (WHERE is_active), max(sms_rate) FILTER (WHERE id = :default_device)
    FROM devices WHERE user_id = :user_id AND removed_at IS NULL
""")


def overview(session: Session, principal: Principal) -> AccountOut:
    """Everything at a glance."""
    user = session.get_one(User, principal.user_id)
    figures = usage.figures(session, user.id)
    devices, active, rate = session.execute(
        _DEVICES, {"user_id": user.id, "default_device": user.default_device_id}
    ).one()
    accepted, sent = figures[UsageKind.ACCEPTED], figures[UsageKind.SENT]
    return AccountOut(
        user=UserBrief(id=user.id, name=user.name, email=user.email),
        sms_rate=Decimal(str(get_settings().sms_rate)) if rate is None else rate,
        usage=UsageOut(
            total_sms=accepted.total,
            total_spent=accepted.amount,
            today_sms=accepted.today,
            today_spent=accepted.amount_today,
            month_sms=accepted.month,
            month_spent=accepted.amount_month,
        ),
        stats=AccountStats(
            total_sent=sent.total,
            total_delivered=figures[UsageKind.DELIVERED].total,
            total_failed=figures[UsageKind.FAILED].total,
            total_pending=accepted.total - sent.total - figures[UsageKind.CANCELLED].total,
            total_received=figures[UsageKind.RECEIVED].total,
            devices=devices,
            active_devices=active,
        ),
        subscription=subscription(user, is_premium=principal.is_premium),
    )


def subscription(user: User, *, is_premium: bool) -> SubscriptionOut:
    """The plan, what it costs, and what the account may use now."""
    settings = get_settings()
    return SubscriptionOut(
        plan="premium" if is_premium else "free",
        is_premium=is_premium,
        premium_expires_at=user.premium_expires_at,
        prices=Prices(
            monthly=Decimal(str(settings.price_monthly)),
            yearly=Decimal(str(settings.price_yearly)),
            currency=settings.price_currency,
        ),
        features=[name for name in FEATURES if is_premium or name in settings.free_features],
    )


def subscription_with_payment(user: User, *, is_premium: bool) -> SubscriptionWithPayment:
    """Show the plan, and how to pay for premium."""
    settings = get_settings()
    payment = Payment(
        wallet_address=settings.payment_wallet,
        asset=settings.payment_asset,
        network=settings.payment_network,
        admin_telegram=settings.payment_telegram,
    )
    return SubscriptionWithPayment(**dict(subscription(user, is_premium=is_premium)), payment=payment)


def delivery_stats(session: Session, user_id: int) -> dict[str, dict[str, int | float]]:
    """Sent, delivered and failed of today, this week and this month (UTC)."""
    figures = usage.figures(session, user_id)
    kinds = {name: asdict(figures[kind]) for name, kind in _STATS.items()}
    periods: dict[str, dict[str, int | float]] = {}
    for period, key in _PERIODS.items():
        numbers: dict[str, int | float] = {name: sums[key] for name, sums in kinds.items()}
        rate = usage.delivery_rate(kinds["delivered"][key], kinds["sent"][key])
        periods[period] = {**numbers, "delivery_rate": rate}
    return periods


_STATS = {"sent": UsageKind.SENT, "delivered": UsageKind.DELIVERED, "failed": UsageKind.FAILED}
_PERIODS = {"today": "today", "this_week": "week", "this_month": "month"}


_NOBODY_ALERTED = "No mail server is configured; enable device events as well, so that your webhook receives the alert."


# What decides when a bulk message may go.
_OF_HOURS = frozenset({"time_zone", "country_zones", "allowed_hours"})


def _stored(value: Any) -> Any:
    """As its column holds it."""
    match value:
        case AllowedHours():
            return value.stored()
        case FrequencyCap():
            return value.model_dump()
    return value


def change_settings(session: Session, user: User, given: Mapping[str, Any]) -> None:
    """Change the settings given. Raises `Invalid` for an alert that could reach nobody."""
    for name, value in given.items():
        setattr(user, name, _stored(value))
    if given.keys() & _OF_HOURS:
        user.hours_set_at = func.clock_timestamp()  # evaluated by the database
        user.hours_judged_to = 0
    reaches_nobody = get_settings().smtp_url is None and not user.device_events
    if given.get("offline_alert_minutes") is not None and reaches_nobody:
        raise Invalid({"offline_alert_minutes": [_NOBODY_ALERTED]})
    if given:
        audit.record(session, Action.SETTINGS_CHANGED, user.id, names=sorted(given))
