"""Accepting a bulk send: up to 100,000 messages in one request, all or nothing.

Rows are written by COPY in one transaction. With an idempotency key, the same transaction writes what came of it
beside the key, so that a repeated request finds either all of the work or none.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.orm import Session

from app.accounts.auth import Principal, hold, require
from app.contacts import groups
from app.core import outbound
from app.core.database import transaction
from app.core.envelope import plain_number
from app.core.errors import AppError, Invalid
from app.core.ids import uuid7
from app.core.numbers import normalize_number
from app.core.task_names import TaskName
from app.messages import storing
from app.messages.accepting import idempotency
from app.messages.accepting.device_choice import Choice, choose
from app.messages.dispatch import waking
from app.messages.schemas import MAX_RECIPIENTS, MESSAGE_LENGTH, NOT_A_NUMBER, BulkDraft
from app.messages.segments import segments

MOST_NAMED_ERRORS = 100
TOO_MANY = f"The recipients field must not have more than {MAX_RECIPIENTS} items."
# What is wrong with each field that names somebody, where in the end there is nobody.
NOBODY = {
    "recipients": "None of the recipients is a valid phone number.",
    "group_ids": "The selected groups have no contacts.",
}
NAME = "{name}"

# What the answer's `message` says.
QUEUED = "Bulk SMS queued for sending"
Skipped = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Recipient:
    """A number in E.164, and the name that `{name}` becomes."""

    number: str
    name: str | None


@dataclass(frozen=True, slots=True)
class Accepted:
    """What a bulk send came to: ids in the order of the recipients, what all share, and who was left out."""

    ids: Sequence[int]
    message_ids: Sequence[UUID]
    numbers: Sequence[str]
    price: Decimal
    my_id: str | None
    skipped: Sequence[Skipped]


def send(user: Principal, draft: BulkDraft, key: str | None, request_hash: bytes) -> bytes:
    """The JSON answer to a bulk send, with an idempotency key or without one.

    Judging the recipients takes seconds where national numbers are read, so it is done while no transaction is open.
    """
    key = idempotency.checked(key)
    if key is None:
        recipients, skipped = _checked(user, draft)
        with transaction() as session:
            accepted = accept_bulk(session, user, draft, recipients, skipped)
        return answer(accepted)
    claim = idempotency.claim_bulk(user.user_id, key, request_hash)
    if isinstance(claim, idempotency.Finished):
        # What was accepted once is not judged again: the plan or the region may be others by now.
        with transaction() as session:
            return answer(_first_answer(session, draft, claim))
    try:
        recipients, skipped = _checked(user, draft)
        with transaction() as session:
            accepted = accept_bulk(session, user, draft, recipients, skipped)
            done = idempotency.Finished(list(accepted.ids), list(skipped))
            idempotency.finish_bulk(session, user.user_id, key, claim, done)
    except Exception:
        idempotency.release_bulk(user.user_id, key, claim)
        raise
    return answer(accepted)


def _checked(user: Principal, draft: BulkDraft) -> tuple[list[Recipient], list[Skipped]]:
    require(user, "sms:send", "bulk")
    if draft.callback_url is not None:
        require(user, "sms:send", "webhooks")
    return judge(draft, user.default_region)


# It locks nothing that anybody waits for, and on a busy machine 100,000 rows take their time to be made and written.
_UNHURRIED = (
    text("SET LOCAL statement_timeout = '60s'"),
    text("SET LOCAL idle_in_transaction_session_timeout = '30s'"),
)


def accept_bulk(
    session: Session, user: Principal, draft: BulkDraft, recipients: Sequence[Recipient], skipped: Sequence[Skipped]
) -> Accepted:
    """Write a bulk send's messages and queue rows, for what `judge` made of its recipients and for its groups.

    Raises `Invalid` or `Refused`, and then writes nothing.
    """
    for statement in _UNHURRIED:
        session.execute(statement)
    hold(session, user)
    recipients = _with_groups(session, user, draft, recipients)
    choice = choose(session, user.user_id, draft.device_id)
    if isinstance(choice, AppError):
        raise choice
    texts = _texts(session, user, draft.message, recipients)
    price = choice.rate if draft.price is None else draft.price
    messages = list(_new_messages(user, draft, choice, price, recipients, texts))
    ids = storing.copy_many(session, messages)
    if choice.device_id is None:
        outbound.nudge(session, TaskName.ROUTE, user.user_id)
    else:
        waking.stir(session, {(user.user_id, choice.device_id)})
    message_ids, numbers = [new.message_id for new in messages], [new.recipient_number for new in messages]
    return Accepted(ids, message_ids, numbers, price, draft.my_id, skipped)


_FIRST = text("""
    SELECT m.id, m.message_id, m.recipient_number, m.price
    FROM unnest(CAST(:ids AS bigint[])) WITH ORDINALITY AS u(id, place) JOIN messages m ON m.id = u.id ORDER BY u.place
""")


def _first_answer(session: Session, draft: BulkDraft, done: idempotency.Finished) -> Accepted:
    """What the first request with this key came to, from the rows it made."""
    rows = session.execute(_FIRST, {"ids": done.ids}).all()
    return Accepted(
        [row.id for row in rows],
        [row.message_id for row in rows],
        [row.recipient_number for row in rows],
        rows[0].price,
        draft.my_id,
        done.skipped,
    )


def judge(draft: BulkDraft, region: str | None) -> tuple[list[Recipient], list[Skipped]]:
    """The named recipients to serve, each number once at its first place, and those that `skip_invalid` left out.

    Raises `Invalid` for numbers that are none, by their place in the request.
    """
    asked = draft.recipients or []
    if len(asked) > MAX_RECIPIENTS:
        raise Invalid({"recipients": [TOO_MANY]})
    found: list[Recipient] = []
    wrong: dict[str, list[str]] = {}
    more_wrong = 0
    skipped: list[Skipped] = []
    for place, item in enumerate(asked):
        judged = _judge(item, place, region)
        if isinstance(judged, Recipient):
            found.append(judged)
        elif draft.skip_invalid:
            skipped.append({"index": place, "reason": judged[1]})
        elif len(wrong) < MOST_NAMED_ERRORS:
            wrong[judged[0]] = [judged[1]]
        else:
            more_wrong += 1
    if wrong:
        raise Invalid(wrong, unnamed=more_wrong)
    return (found if draft.allow_duplicates else _each_once(found)), skipped


def _each_once(recipients: Sequence[Recipient]) -> list[Recipient]:
    first: dict[str, Recipient] = {}
    for recipient in recipients:
        first.setdefault(recipient.number, recipient)
    return list(first.values())


def _with_groups(
    session: Session, user: Principal, draft: BulkDraft, recipients: Sequence[Recipient]
) -> list[Recipient]:
    """The recipients, and behind them the members of the groups who are not among them, each once.

    Raises `Invalid` for unknown groups, for nobody, and for too many.
    """
    everyone = list(recipients)
    if draft.group_ids:
        groups.refuse_unknown("group_ids", draft.group_ids, groups.owned(session, user.user_id, draft.group_ids))
        named = {recipient.number for recipient in recipients}
        members = groups.members(session, draft.group_ids, MAX_RECIPIENTS + 1)
        everyone += [Recipient(number, name) for number, name in members if number not in named]
    if len(everyone) > MAX_RECIPIENTS:
        raise Invalid({"recipients": [TOO_MANY]})
    if not everyone:
        raise Invalid({field: [sentence] for field, sentence in NOBODY.items() if getattr(draft, field)})
    return everyone


def _judge(item: object, place: int, region: str | None) -> Recipient | tuple[str, str]:
    """A recipient, or the dotted field that is wrong and the sentence for it."""
    name: str | None = None
    field = f"recipients.{place}"
    if isinstance(item, dict):
        field, named, item = f"{field}.number", item.get("name"), item.get("number")
        if isinstance(named, str):
            name = named.strip() or None
        elif named is not None:
            return f"recipients.{place}.name", f"The recipients.{place}.name field must be a string."
    if item is None or item == "" or (isinstance(item, str) and not item.strip()):
        return field, f"The {field} field is required."
    if not isinstance(item, str):
        return field, f"The {field} field must be a string."
    number = normalize_number(item, region)
    return Recipient(number, name) if number else (field, NOT_A_NUMBER.format(name=field))


def _texts(session: Session, user: Principal, message: str, recipients: Sequence[Recipient]) -> list[str]:
    """Each recipient's text: `{name}` is the recipient's name, else the contact's, else nothing."""
    if NAME not in message:
        return [message] * len(recipients)
    nameless = [recipient.number for recipient in recipients if recipient.name is None]
    known: dict[str, str | None] = dict(
        session.execute(
            text("SELECT phone_number, name FROM contacts WHERE user_id = :user AND phone_number = ANY(:numbers)"),
            {"user": user.user_id, "numbers": nameless},
        ).all()
    )
    texts = [message.replace(NAME, recipient.name or known.get(recipient.number) or "") for recipient in recipients]
    for recipient, body in zip(recipients, texts, strict=True):
        if len(body) > MESSAGE_LENGTH:
            sentence = f"The message field must not be greater than {MESSAGE_LENGTH} characters"
            raise Invalid({"message": [f"{sentence}; with the name of {recipient.number} it has {len(body)}."]})
        if not body.strip():
            raise Invalid({"message": [f"The message field is required; {recipient.number} has no name to fill it."]})
    return texts


def _new_messages(
    user: Principal,
    draft: BulkDraft,
    choice: Choice,
    price: Decimal,
    recipients: Sequence[Recipient],
    texts: Sequence[str],
) -> Iterator[storing.NewMessage]:
    parts: dict[str, tuple[int, str]] = {}
    for recipient, body in zip(recipients, texts, strict=True):
        if body not in parts:
            parts[body] = segments(body)
        number, encoding = parts[body]
        yield storing.NewMessage(
            message_id=uuid7(),
            user_id=user.user_id,
            device_id=choice.device_id,
            device_named=choice.named,
            recipient_number=recipient.number,
            message=body,
            price=price,
            my_id=draft.my_id,
            callback_url=draft.callback_url,
            sim_slot=draft.sim_slot,
            segments=number,
            encoding=encoding,
            validity=draft.validity_period,
        )


def answer(accepted: Accepted) -> bytes:
    """The answer's JSON, put together by hand: a serializer would hold the interpreter for the whole list at once."""
    price = json.dumps(plain_number(accepted.price))
    tail = (
        f'","status":"pending","price":{price},"is_charged":false,"direction":"outbound",'
        f'"my_id":{json.dumps(accepted.my_id, ensure_ascii=False)}}}'
    )
    items = ",".join(
        [
            f'{{"id":{number},"message_id":"{message_id}","recipient_number":"{recipient}{tail}'
            for number, message_id, recipient in zip(accepted.ids, accepted.message_ids, accepted.numbers, strict=True)
        ]
    )
    skipped = f',"skipped":{json.dumps(accepted.skipped)}' if accepted.skipped else ""
    return f'{{"success":true,"message":"{QUEUED}","data":[{items}]{skipped}}}'.encode()
