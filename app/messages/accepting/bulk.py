"""Accepting a bulk send: up to 100,000 messages in one request, all or nothing.

Rows are written by COPY in one transaction. With an idempotency key, the same transaction writes what came of it
beside the key, so that a repeated request finds either all of the work or none.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.orm import Session

from app.accounts.hours import keepers
from app.accounts.principals import Principal, hold, require
from app.contacts import book
from app.core.arrays import unnest
from app.core.database import transaction
from app.core.envelope import plain_number, timestamp
from app.core.errors import AppError, Invalid, Refused
from app.core.ids import uuid7
from app.core.refusals import NOBODY_LEFT
from app.messages import storing, templates
from app.messages.accepting import bulk_keys, idempotency, later, suppression
from app.messages.accepting.device_choice import Choice, choose
from app.messages.accepting.recipients import NOBODY, Recipient, Skipped, texts, validate, with_groups
from app.messages.dispatch import waking
from app.messages.models import Message
from app.messages.schemas import BulkDraft
from app.messages.segments import segments

# What the answer's `message` says.
QUEUED = "Bulk SMS queued for sending"


@dataclass(frozen=True, slots=True)
class Accepted:
    """What a bulk send came to: ids in the order of the recipients, what all share, and who was left out."""

    ids: Sequence[int]
    message_ids: Sequence[UUID]
    numbers: Sequence[str]
    price: Decimal
    my_id: str | None
    skipped: Sequence[Skipped]
    scheduled_at: datetime | None


def send(user: Principal, draft: BulkDraft, key: str | None, request_hash: bytes) -> bytes:
    """The JSON answer to a bulk send."""
    return answer(sent(user, draft, key, request_hash))


def sent(user: Principal, draft: BulkDraft, key: str | None, request_hash: bytes) -> Accepted:
    """Accept a bulk send, with an idempotency key or without one.

    Judging the recipients takes seconds where national numbers are read, so it is done while no transaction is open.
    """
    key = idempotency.checked(key)
    if key is None:
        recipients, skipped = _checked(user, draft)
        with transaction() as session:
            return accept_bulk(session, user, draft, recipients, skipped)
    claim = bulk_keys.claim(user.user_id, key, request_hash)
    if isinstance(claim, bulk_keys.Finished):
        # What was accepted once is not validated again: the plan or the region may be others by now.
        with transaction() as session:
            return _first_answer(session, draft, claim)
    try:
        recipients, skipped = _checked(user, draft)
        with transaction() as session:
            accepted = accept_bulk(session, user, draft, recipients, skipped)
            done = bulk_keys.Finished(list(accepted.ids), list(accepted.skipped))
            bulk_keys.finish(session, user.user_id, key, claim, done)
    except Exception:
        bulk_keys.release(user.user_id, key, claim)
        raise
    return accepted


def _checked(user: Principal, draft: BulkDraft) -> tuple[list[Recipient], list[Skipped]]:
    require(user, "sms:send", "bulk")
    if draft.callback_url is not None:
        require(user, "sms:send", "webhooks")
    return validate(
        draft.recipients or [],
        user.default_region,
        skip_invalid=bool(draft.skip_invalid),
        allow_duplicates=bool(draft.allow_duplicates),
    )


# It locks nothing that anybody waits for, and on a busy machine 100,000 rows take their time to be made and written.
_UNHURRIED = (
    text("SET LOCAL statement_timeout = '60s'"),
    text("SET LOCAL idle_in_transaction_session_timeout = '30s'"),
)


def accept_bulk(
    session: Session, user: Principal, draft: BulkDraft, recipients: Sequence[Recipient], skipped: Sequence[Skipped]
) -> Accepted:
    """Write a bulk send's messages and queue rows, for what `validate` made of its recipients and for its groups.

    Raises `Invalid` or `Refused`, and then writes nothing.
    """
    for statement in _UNHURRIED:
        session.execute(statement)
    hold(session, user)
    recipients = with_groups(session, user.user_id, recipients, draft.group_ids or [])
    if not recipients:
        raise Invalid({field: [sentence] for field, sentence in NOBODY.items() if getattr(draft, field)})
    choice = choose(session, user.user_id, draft.device_id)
    if isinstance(choice, AppError):
        raise choice
    message, fields = draft.message, draft.fields
    if draft.template_id is not None:
        message, fields = templates.text_of(session, user.user_id, draft.template_id), fields or {}
    bodies = texts(session, user.user_id, message, recipients, fields)
    numbers = [recipient.number for recipient in recipients]
    if out := suppression.suppressed(session, user.user_id, numbers, bodies):
        skipped = [*skipped, *(suppression.skipped(recipients[at].place, recipients[at].number, out[at]) for at in out)]
        kept = [at for at in range(len(recipients)) if at not in out]
        recipients, bodies = [recipients[at] for at in kept], [bodies[at] for at in kept]
        if not recipients:
            raise Refused(NOBODY_LEFT)
    price = choice.rate if draft.price is None else draft.price
    due_at = later.due_at(draft.send_at, later.clock(session) if draft.send_at else None)
    # What is scheduled is validated when it is due.
    hours = _hours(session, user.user_id, recipients) if due_at is None else {}
    messages = list(_new_messages(user, draft, choice, price, recipients, bodies, due_at, hours))
    ids = storing.copy_many(session, messages)
    if any(new.due_at is None for new in messages):
        waking.wake_or_route(session, {(user.user_id, choice.device_id or 0)})
    message_ids, numbers = [new.message_id for new in messages], [new.recipient_number for new in messages]
    return Accepted(ids, message_ids, numbers, price, draft.my_id, skipped, due_at)


_FIRST = text(f"""
    SELECT m.id, m.message_id, m.recipient_number, m.price, m.created_at
    FROM {unnest(Message.id, ordinality="place")} JOIN messages m ON m.id = u.id ORDER BY u.place
""")  # noqa: S608 - a name of a column


def _first_answer(session: Session, draft: BulkDraft, done: bulk_keys.Finished) -> Accepted:
    """What the first request with this key came to, from the rows it made."""
    rows = session.execute(_FIRST, {"id": done.ids}).all()
    return Accepted(
        [row.id for row in rows],
        [row.message_id for row in rows],
        [row.recipient_number for row in rows],
        rows[0].price,
        draft.my_id,
        done.skipped,
        later.first_due_at(draft.send_at, rows[0].created_at),
    )


_When = tuple[datetime | None, datetime | None]
_ALWAYS: _When = (None, None)


def _hours(session: Session, user_id: int, recipients: Sequence[Recipient]) -> dict[str, _When]:
    """By number until when it is held by the account's hours, and when they end or, of one that is held, began to."""
    keeper = keepers(session, [user_id]).get(user_id)
    if keeper is None:
        return {}
    now = later.clock(session)
    numbers = [recipient.number for recipient in recipients]
    own = book.zones_of(session, user_id, numbers)
    found: dict[str, _When] = {}
    for number in numbers:
        window = keeper.window(number, own.get(number), now)
        found[number] = (window.opening, now) if window.opening > now else (None, window.closing)
    return found


def _new_messages(
    user: Principal,
    draft: BulkDraft,
    choice: Choice,
    price: Decimal,
    recipients: Sequence[Recipient],
    bodies: Sequence[str],
    due_at: datetime | None,
    hours: Mapping[str, _When],
) -> Iterator[storing.NewMessage]:
    parts: dict[str, tuple[int, str]] = {}
    user_id, device_id, named = user.user_id, choice.device_id, choice.named
    ignores_opt_out = False
    my_id, callback_url, sim_slot, validity = draft.my_id, draft.callback_url, draft.sim_slot, draft.validity_period
    for recipient, body in zip(recipients, bodies, strict=True):
        if body not in parts:
            parts[body] = segments(body)
        number, encoding = parts[body]
        opens_at, closes_at = hours.get(recipient.number, _ALWAYS)
        # By place, as the fields stand: by name each costs half a microsecond more.
        yield storing.NewMessage(
            uuid7(), user_id, device_id, named, recipient.number, body, price, my_id, callback_url, sim_slot,
            number, encoding, None, ignores_opt_out, validity, due_at or opens_at, due_at, closes_at,
        )  # fmt: skip


def answer(accepted: Accepted) -> bytes:
    """The answer's JSON, put together by hand: a serializer would hold the interpreter for the whole list at once."""
    price = json.dumps(plain_number(accepted.price))
    scheduled = f',"scheduled_at":"{timestamp(accepted.scheduled_at)}"' if accepted.scheduled_at else ""
    tail = (
        f'","status":"pending","price":{price},"is_charged":false,"direction":"outbound",'
        f'"my_id":{json.dumps(accepted.my_id, ensure_ascii=False)}{scheduled}}}'
    )
    items = ",".join(
        [
            f'{{"id":{number},"message_id":"{message_id}","recipient_number":"{recipient}{tail}'
            for number, message_id, recipient in zip(accepted.ids, accepted.message_ids, accepted.numbers, strict=True)
        ]
    )
    skipped = f',"skipped":{json.dumps(accepted.skipped)}' if accepted.skipped else ""
    return f'{{"success":true,"message":"{QUEUED}","data":[{items}]{skipped}}}'.encode()
