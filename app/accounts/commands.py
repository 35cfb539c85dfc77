"""`smsfleet user` and `smsfleet promo`: what an operator does with accounts."""

from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer
from pydantic import TypeAdapter, ValidationError
from sqlalchemy import func, select

from app.accounts import passwords, plans, signin
from app.accounts.models import User
from app.core.database import transaction
from app.core.envelope import timestamp
from app.core.security import random_text
from app.core.validation import Email

user_app = typer.Typer(help="Users.", no_args_is_help=True)
promo_app = typer.Typer(help="Promo codes that give premium.", no_args_is_help=True)

_PASSWORD_LENGTH = 20
_MOST_USES = 1_000_000_000

Months = Annotated[int, typer.Option(min=1, max=plans.MOST_MONTHS, help="Calendar months of premium.")]


@user_app.command("create")
def create_user(email: str, name: Annotated[str, typer.Option(help="What the user is called.")]) -> None:
    """Create a user, also where registration is closed. The password is drawn, and printed once."""
    address, called = email.strip(), name.strip()
    try:
        TypeAdapter(Email).validate_python(address)
    except ValidationError:
        raise typer.BadParameter(f"{address} is no e-mail address") from None
    if not called or len(called) > 255:  # noqa: PLR2004 - as when registering
        raise typer.BadParameter("a name has 1 to 255 characters")
    password = random_text(_PASSWORD_LENGTH)
    hashed = passwords.hash_password(password)
    with transaction() as session:
        user = signin.add_user(session, name=called, email=address, password_hash=hashed)
    if user is None:
        _fail(f"there is a user {address} already")
        return
    typer.echo(f"user {user.id} {address} created, password: {password}")


@user_app.command("premium")
def give_premium(email: str, months: Months) -> None:
    """Add premium to a user, after what they have."""
    with transaction() as session:
        user_id = session.scalar(select(User.id).where(func.lower(User.email) == email.strip().lower()))
        end = plans.add_premium(session, user_id, months) if user_id else None
    if end is None:
        _fail(f"there is no user {email}")
        return
    typer.echo(f"user {email} has premium until {timestamp(end)}")


@promo_app.command("create")
def create_promo(
    code: str,
    months: Months,
    uses: Annotated[int | None, typer.Option(min=1, max=_MOST_USES, help="How many users; unset, any number.")] = None,
    until: Annotated[
        datetime | None, typer.Option(formats=["%Y-%m-%d"], help="Last day it can be used (UTC); unset, for ever.")
    ] = None,
) -> None:
    """Create a promo code."""
    if not code.strip() or len(code.strip()) > 64:  # noqa: PLR2004 - the column's
        raise typer.BadParameter("a code has 1 to 64 characters")
    end = until.replace(tzinfo=UTC) + timedelta(days=1) if until else None
    if end is not None and end <= datetime.now(UTC):
        raise typer.BadParameter("that day is over", param_hint="--until")
    with transaction() as session:
        promo = plans.create_promo(session, code, months, uses=uses, until=end)
    if promo is None:
        _fail(f"there is a promo code {code.strip().upper()} already")
        return
    typer.echo(f"promo code {promo.code} created: {months} months")


@promo_app.command("list")
def list_promos() -> None:
    """Show all promo codes: months, uses, and when they end."""
    with transaction() as session:
        for promo in plans.promos(session):
            limit = "any number" if promo.uses_limit is None else promo.uses_limit
            end = timestamp(promo.valid_until) if promo.valid_until else "never"
            typer.echo(f"{promo.code}  months: {promo.months}  used: {promo.used} of {limit}  ends: {end}")


def _fail(reason: str) -> None:
    typer.echo(reason, err=True)
    raise typer.Exit(1)
