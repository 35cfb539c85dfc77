"""Plans: premium time and the codes that give it."""

from datetime import datetime

from sqlalchemy import ColumnElement, DateTime, Integer, cast, func, literal, or_, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from app.accounts import audit
from app.accounts.audit import Action
from app.accounts.models import PromoCode, PromoRedemption, User
from app.core.errors import Refused
from app.core.refusals import PROMO_UNAVAILABLE

MAX_MONTHS = 1200


def _extended(months: ColumnElement[int]) -> ColumnElement[datetime]:
    """Calendar months, counted in UTC, after the later of now and the present end."""
    start = func.greatest(func.coalesce(User.premium_expires_at, func.clock_timestamp()), func.clock_timestamp())
    interval = func.make_interval(0, cast(months, Integer))
    return cast(func.timezone("UTC", func.timezone("UTC", start) + interval), DateTime(timezone=True))


def add_premium(session: Session, user_id: int, months: int) -> datetime:
    """Lengthen the user's premium, as an operator does; its new end."""
    audit.record(session, Action.PREMIUM_GIVEN, user_id, months=months)
    return _lengthen(session, user_id, months)


def _lengthen(session: Session, user_id: int, months: int) -> datetime:
    end = session.execute(
        update(User)
        .where(User.id == user_id)
        .values(premium_expires_at=_extended(literal(months)))
        .returning(User.premium_expires_at)
    ).scalar_one()
    assert end is not None
    return end


def redeem(session: Session, user_id: int, code: str) -> datetime:
    """Use a promo code, in any case; the new end of premium. Raises `Refused` where it cannot be used (any more).

    The code's row lets one redemption through at a time, so a last use is used once; the redemption's key sees to once
    per user.
    """
    promo = session.execute(
        update(PromoCode)
        .where(
            PromoCode.code == code.upper(),
            or_(PromoCode.uses_limit.is_(None), PromoCode.used < PromoCode.uses_limit),
            or_(PromoCode.valid_until.is_(None), PromoCode.valid_until > func.clock_timestamp()),
        )
        .values(used=PromoCode.used + 1)
        .returning(PromoCode.id, PromoCode.months)
    ).one_or_none()
    if promo is not None:
        first = session.scalar(
            insert(PromoRedemption)
            .values(promo_code_id=promo.id, user_id=user_id)
            .on_conflict_do_nothing()
            .returning(PromoRedemption.user_id)
        )
        if first is not None:
            audit.record(session, Action.PROMO_REDEEMED, user_id, promo.id, months=promo.months)
            return _lengthen(session, user_id, promo.months)
    raise Refused(PROMO_UNAVAILABLE)


def create_promo(
    session: Session, code: str, months: int, *, uses: int | None = None, until: datetime | None = None
) -> PromoCode | None:
    """A new code, kept in upper case; None where there is one of this name."""
    made = session.scalar(
        insert(PromoCode)
        .values(code=code.strip().upper(), months=months, uses_limit=uses, valid_until=until)
        .on_conflict_do_nothing()
        .returning(PromoCode)
    )
    if made is not None:
        audit.record(session, Action.PROMO_CREATED, None, made.id, months=months)
    return made


def promos(session: Session) -> list[PromoCode]:
    """All codes, the oldest first."""
    return list(session.scalars(select(PromoCode).order_by(PromoCode.id)))
