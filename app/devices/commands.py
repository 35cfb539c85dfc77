"""`smsfleet phones pair`: everything a phone needs on the screen, until it has connected."""

import time
from typing import Annotated

import typer
from sqlalchemy import select, text
from sqlalchemy.orm import Session

from app.accounts.models import User
from app.accounts.ownership import is_address
from app.core.database import transaction
from app.core.printable import printable
from app.core.settings import get_settings
from app.devices import invitation
from app.devices.schemas import Enrollment

_POLL_SECONDS = 1.0
_MINUTES = 15

_PHONES = text("""
    SELECT d.id, d.device_name, encode(d.token_hash, 'hex') AS token,
           COALESCE(GREATEST(s.pulled_at, s.stream_seen_at) > to_timestamp(:since), false) AS has_connected
    FROM devices d JOIN device_state s ON s.device_id = d.id
    WHERE d.user_id = :user AND d.removed_at IS NULL ORDER BY d.id
""")
_CLOCK = text("SELECT CAST(EXTRACT(EPOCH FROM clock_timestamp()) AS float8)")


def pair(
    email: Annotated[str | None, typer.Argument(help="The phone's owner; optional if there is only one user.")] = None,
    minutes: Annotated[float, typer.Option(min=0, help="How long to wait for the phone.")] = _MINUTES,
) -> None:
    """Show what to enter on a new phone, with a QR code, and wait until it connects."""
    with transaction() as session:
        user_id = _user(session, email)
        since = session.scalar(_CLOCK)
        before = {row.id: row.token for row in session.execute(_PHONES, {"user": user_id, "since": since})}
        invited = invitation.invite(session, user_id, _address())
    _show(invited)
    if not _wait(user_id, since, before, time.monotonic() + minutes * 60):
        typer.echo(
            "No phone has connected. The private token remains valid; DELETE /api/tokens/{id} revokes it.", err=True
        )
        raise typer.Exit(1)


def _user(session: Session, email: str | None) -> int:
    query = select(User.id).where(User.deleted_at.is_(None))
    if email is not None:
        query = query.where(is_address(email))
    found = session.scalars(query.order_by(User.id).limit(2)).all()
    if len(found) == 1:
        return found[0]
    if email is not None:
        reason = f"there is no user {email}"
    elif found:
        reason = "there are several users; name the phone's owner: `smsfleet phones pair EMAIL`"
    else:
        reason = "there is no user yet; create one: `smsfleet user create EMAIL --name NAME`"
    typer.echo(reason, err=True)
    raise typer.Exit(1)


def _address() -> str:
    settings = get_settings()
    return str(settings.public_url or f"http://{settings.host}:{settings.port}").rstrip("/")


def _show(invited: Enrollment) -> None:
    invitation.qr(invited.server_url, invited.private_token).terminal(compact=True)
    typer.echo(f"\nAPI URL:        {invited.server_url}\nPrivate token:  {invited.private_token}\n")
    for number, step in enumerate(invited.steps, 1):
        typer.echo(f"{number}. {step}")
    typer.echo(f"\n{invited.android_limit.advice}\n")
    if invited.warning:
        typer.echo(f"{invited.warning}\n", err=True)
    typer.echo("Waiting for the phone. You can press Ctrl-C; the phone can also connect later.")


def _wait(user_id: int, since: float, before: dict[int, str], deadline: float) -> bool:
    """Whether a phone that enrolled meanwhile asked for messages before the deadline."""
    told = set()
    while True:
        with transaction() as session:
            phones = session.execute(_PHONES, {"user": user_id, "since": since}).all()
        for phone in phones:
            if before.get(phone.id) == phone.token:
                continue
            if phone.has_connected:
                typer.echo(f"{printable(phone.device_name)} is connected, as device {phone.id}.")
                return True
            if phone.id not in told:
                told.add(phone.id)
                typer.echo(f"{printable(phone.device_name)} has enrolled; it has not asked for messages yet.")
        if time.monotonic() > deadline:
            return False
        time.sleep(_POLL_SECONDS)
