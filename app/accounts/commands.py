"""`smsfleet user` and `smsfleet promo`: what an operator does with accounts."""

from datetime import UTC, datetime, timedelta
from typing import Annotated, NoReturn

import typer
from pydantic import TypeAdapter, ValidationError
from sqlalchemy import select
from sqlalchemy.orm import Session

from app.accounts import (
    audit,
    blocking,
    codes,
    ownership,
    passwords,
    plans,
    second_factor,
    sessions,
    sign_in_links,
    signin,
)
from app.accounts.audit import Action
from app.accounts.models import User
from app.core import operator_link
from app.core.database import transaction
from app.core.envelope import timestamp
from app.core.printable import printable
from app.core.security import random_text
from app.core.settings import get_settings
from app.core.validation import Email, row_id

user_app = typer.Typer(help="Users.", no_args_is_help=True, add_completion=False)
promo_app = typer.Typer(help="Promo codes that give premium.", no_args_is_help=True, add_completion=False)
audit_app = typer.Typer(help="The audit log.", no_args_is_help=True, add_completion=False)

_PASSWORD_LENGTH = 20
_MAX_USES = 1_000_000_000

Address = Annotated[str, typer.Argument(help="The user's e-mail address or number.")]
Months = Annotated[int, typer.Option(min=1, max=plans.MAX_MONTHS, help="Calendar months of premium.")]


@user_app.command("create")
def create_user(email: str, name: Annotated[str, typer.Option(help="The user's name.")]) -> None:
    """Create a user, even if registration is closed. A password is generated and printed once."""
    address, called = email.strip(), name.strip()
    try:
        TypeAdapter(Email).validate_python(address)
    except ValidationError:
        raise typer.BadParameter(f"{address} is not an e-mail address") from None
    if not called or len(called) > 255:  # noqa: PLR2004 - as when registering
        raise typer.BadParameter("a name has 1 to 255 characters")
    password = random_text(_PASSWORD_LENGTH)
    hashed = passwords.hash_password(password)
    with transaction() as session:
        user = signin.add_user(session, name=called, email=address, password_hash=hashed)
        if user is not None:
            audit.record(session, Action.ACCOUNT_CREATED, user.id)
    if user is None:
        _fail(f"user {address} already exists")
        return
    typer.echo(f"user {user.id} {address} created, password: {password}")


@user_app.command("premium")
def give_premium(email: Address, months: Months) -> None:
    """Extend a user's premium."""
    with transaction() as session:
        end = plans.add_premium(session, _user(session, email).id, months)
    assert end is not None
    typer.echo(f"user {email} has premium until {timestamp(end)}")


@user_app.command("operator")
def make_operator(
    email: Address, *, revoke: Annotated[bool, typer.Option("--revoke", help="Take the operators' pages away.")] = False
) -> None:
    """Give a user the operators' pages of the dashboard."""
    with transaction() as session:
        user = _user(session, email)
        user.is_operator = not revoke
        audit.record(session, Action.OPERATOR_UNMADE if revoke else Action.OPERATOR_MADE, user.id)
    typer.echo(f"user {email} is {'no longer an' if revoke else 'an'} operator")


@user_app.command("block")
def block_user(
    email: Address, *, undo: Annotated[bool, typer.Option("--undo", help="Let the account be used again.")] = False
) -> None:
    """Block an account: nobody signs in, its keys are refused, and what waits is cancelled."""
    with transaction() as session:
        user = _user(session, email)
        blocking.unblock(session, user) if undo else blocking.block(session, user)
    typer.echo(f"user {email} is {'no longer ' if undo else ''}blocked")


@user_app.command("no-second-factor")
def end_second_factor(email: Address) -> None:
    """Let a user who lost their authenticator app and recovery codes sign in with the password alone."""
    with transaction() as session:
        second_factor.turn_off(session, _user(session, email))
    typer.echo(f"user {email} signs in with the password alone")


@user_app.command("link")
def print_link() -> None:
    """Print a sign-in link for the operator, good once and for ten minutes."""
    secret = operator_link.new_secret()
    with transaction() as session:
        sign_in_links.make(session, secret)
    settings = get_settings()
    address = str(settings.public_url or f"http://{settings.host}:{settings.port}").rstrip("/")
    typer.echo(f"{address}{operator_link.PATH}{secret}")


@user_app.command("list")
def list_users() -> None:
    """List all users: number, address, whether it is confirmed, plan, date of creation."""
    with transaction() as session:
        query = select(User).where(User.deleted_at.is_(None)).order_by(User.id)
        for user in session.scalars(query.execution_options(yield_per=500)):
            confirmed = "confirmed" if user.email_verified_at else "not confirmed"
            premium = f"premium until {timestamp(user.premium_expires_at)}" if user.premium_expires_at else "free"
            typer.echo(
                f"{user.id}  {printable(user.email)}  {confirmed}  {premium}  created: {timestamp(user.created_at)}"
            )


@user_app.command("password")
def set_password(email: Address) -> None:
    """Generate a new password for a user and print it once. Sessions end; API keys remain valid."""
    password = random_text(_PASSWORD_LENGTH)
    hashed = passwords.hash_password(password)
    with transaction() as session:
        user = _user(session, email)
        user.password_hash = hashed
        codes.forget_reset(session, user.id)
        audit.record(session, Action.PASSWORD_RESET, user.id)
        sessions.end_all(session, user.id)
    typer.echo(f"user {user.id} {user.email}, new password: {password}")


@user_app.command("delete")
def delete_user(
    email: Address, *, yes: Annotated[bool, typer.Option("--yes", help="Do not ask for confirmation.")] = False
) -> None:
    """Delete a user with all messages, contacts, phones and keys."""
    with transaction() as session:
        user = _user(session, email)
    if not yes:
        typer.confirm(f"Delete user {user.id} {user.email} with all messages, contacts and phones?", abort=True)
    with transaction() as session:
        ownership.delete_account(session, user.id)
    typer.echo(f"user {user.id} {user.email} deleted; the remaining data is removed within minutes")


@promo_app.command("create")
def create_promo(
    code: str,
    months: Months,
    uses: Annotated[
        int | None, typer.Option(min=1, max=_MAX_USES, help="Maximum number of users; unlimited if not set.")
    ] = None,
    until: Annotated[
        datetime | None, typer.Option(formats=["%Y-%m-%d"], help="Last day it can be used (UTC); no end if not set.")
    ] = None,
) -> None:
    """Create a promo code."""
    if not code.strip() or len(code.strip()) > 64:  # noqa: PLR2004 - the column's
        raise typer.BadParameter("a code has 1 to 64 characters")
    end = until.replace(tzinfo=UTC) + timedelta(days=1) if until else None
    if end is not None and end <= datetime.now(UTC):
        raise typer.BadParameter("this day has passed", param_hint="--until")
    with transaction() as session:
        promo = plans.create_promo(session, code, months, uses=uses, until=end)
    if promo is None:
        _fail(f"promo code {code.strip().upper()} already exists")
        return
    typer.echo(f"promo code {promo.code} created: {months} months")


@promo_app.command("list")
def list_promos() -> None:
    """List all promo codes: months, uses, and end."""
    with transaction() as session:
        for promo in plans.promos(session):
            limit = "unlimited" if promo.uses_limit is None else promo.uses_limit
            end = timestamp(promo.valid_until) if promo.valid_until else "never"
            typer.echo(f"{promo.code}  months: {promo.months}  used: {promo.used} of {limit}  ends: {end}")


@audit_app.callback()
def _audit() -> None:
    """The audit log."""  # a group, though it has one command


@audit_app.command("list")
def list_audit(
    user: Annotated[str | None, typer.Option(help="Of one user, by e-mail address or number.")] = None,
    action: Annotated[Action | None, typer.Option(help="Entries of this action.")] = None,
    count: Annotated[int, typer.Option(min=1, max=10_000, help="How many of the newest.")] = 50,
) -> None:
    """List what was done to accounts and to the installation, newest first."""
    with transaction() as session:
        whose = None if user is None else _user(session, user).id
        found, _ = audit.entries(session, whose, most=count, action=action)
    for entry in found:
        account = f"  account {entry.user_id}" if entry.user_id else ""
        subject = f"  of {entry.subject}" if entry.subject else ""
        actor = f"user {entry.actor_id}, " if entry.actor_id else ""
        token = f" {entry.token_id}" if entry.token_id else ""
        where = f" from {entry.address}" if entry.address else ""
        details = "".join(f"  {name}: {value!r}" for name, value in (entry.details or {}).items())
        done = f"{entry.action}{account}{subject}  by {actor}{entry.by}{token}{where}{details}"
        typer.echo(f"{timestamp(entry.created_at)}  {done}")


def _user(session: Session, address: str) -> User:
    """The user of this address or number, locked; ends the command where there is none."""
    if (number := row_id(address.strip())) is not None:
        named = select(User).where(User.id == number, User.deleted_at.is_(None)).with_for_update(key_share=True)
        user = session.scalar(named)
    else:
        user = ownership.find(session, address, lock=True)
    if user is None:
        _fail(f"there is no user {address}")
    return user


def _fail(reason: str) -> NoReturn:
    typer.echo(reason, err=True)
    raise typer.Exit(1)
