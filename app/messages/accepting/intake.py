"""Accepting single sends: many requests, one transaction.

`message_id` is drawn before the transaction and the insert skips what is there already, so a batch whose commit is in
doubt can be run again and accepts nothing twice.
"""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy.orm import Session

from app.accounts.principals import Principal, require
from app.core import outbound, trace_notes
from app.core.batching import Later
from app.core.envelope import plain_number, timestamp
from app.core.errors import AppError, Conflict, Invalid, Refused, Unauthenticated
from app.core.numbers import normalize_number
from app.core.refusals import KEY_IN_USE, KEY_USED, OPTED_OUT
from app.core.task_names import TaskName
from app.messages import storing, templates
from app.messages.accepting import idempotency, later, same_content
from app.messages.accepting.device_choice import Choice, authenticate_and_choose, choose
from app.messages.accepting.requests import Asked, Send
from app.messages.dispatch import placing, waking
from app.messages.schemas import NOT_A_NUMBER, SmsDraft
from app.messages.segments import segments
from app.messages.storing import Claim, NewMessage


def accept(session: Session, sends: list[Send]) -> Sequence[dict[str, Any] | Exception]:
    """Write the sends of several requests. The outcome of one is the data of its answer, or its refusal."""
    questions = [send.question for send in sends]
    known = authenticate_and_choose(session, filter(None, questions))
    outcomes: dict[int, dict[str, Any] | Exception] = {}
    asked: list[Asked] = []
    for place, (send, question) in enumerate(zip(sends, questions, strict=True)):
        try:
            asked.append(_read(place, send, known.get(question) if question else None))
        except AppError as refusal:
            outcomes[place] = refusal
    fresh = _each_key_once(asked, outcomes)
    now = later.clock(session) if any(item.draft.send_at for item in fresh) else None
    named = {(item.user.user_id, item.draft.template_id) for item in fresh if item.draft.template_id is not None}
    known_texts = templates.texts(session, named)
    rows: dict[int, NewMessage] = {}
    for item in fresh:
        try:
            rows[item.place] = _row(item, now, known_texts)
        except AppError as refusal:
            outcomes[item.place] = refusal
    ready = [item for item in fresh if item.place in rows]
    for place, outcome in _guard(session, ready, rows).items():
        outcomes[place] = outcome
        del rows[place]
    outcomes |= _insert(session, rows, _claims(ready))
    for item in ready:
        stored = outcomes.get(item.place)
        if item.send.trace and isinstance(stored, dict):
            trace_notes.remember(session, stored["id"], item.send.trace)
    # What was accepted once is not judged again: the plan or the region may be others by now.
    repeated = [item for item in fresh if item.key and isinstance(outcomes[item.place], Exception)]
    first = idempotency.known(session, {item.key for item in repeated if item.key})
    outcomes |= {item.place: _again(item, first[item.key]) for item in repeated if item.key in first}
    return [outcomes[place] for place in range(len(sends))]


def _each_key_once(asked: Sequence[Asked], outcomes: dict[int, dict[str, Any] | Exception]) -> list[Asked]:
    """The sends without those whose key another one of the batch has; these wait for the next."""
    fresh: list[Asked] = []
    taken: set[idempotency.Key] = set()
    for item in asked:
        if item.key in taken:
            outcomes[item.place] = Later()
            continue
        fresh.append(item)
        if item.key:
            taken.add(item.key)
    return fresh


def _claims(ready: Sequence[Asked]) -> dict[UUID, Claim]:
    return {item.send.message_id: Claim(item.key[1], item.send.request_hash) for item in ready if item.key}


def _guard(session: Session, ready: Sequence[Asked], rows: Mapping[int, NewMessage]) -> dict[int, AppError | Later]:
    """What the guard against the same content keeps from being stored now; a first look only says who has it."""
    guarded = {item.place: item for item in ready if item.user.same_content_minutes is not None}
    late: dict[int, AppError | Later] = {}
    for place, item in guarded.items():
        if not item.send.in_transaction:
            item.send.in_transaction = True
            late[place] = Later()
    minutes = {place: item.user.same_content_minutes or 0 for place, item in guarded.items() if place not in late}
    return {**late, **(same_content.check(session, rows, minutes) if minutes else {})}


def _again(item: Asked, first: idempotency.FirstAnswer) -> dict[str, Any] | Refused:
    if first.request_hash != item.send.request_hash:
        return Refused(KEY_USED)
    due_at = later.first_due_at(item.draft.send_at, first.message["created_at"])
    return answer({**first.message, "scheduled_at": due_at}, first.message["id"])


def is_one_statement(sends: list[Send]) -> bool:
    """Whether `accept` writes them in one statement, and needs nothing to hold still before it."""
    return len(sends) > placing.MAX_SENDS and not any(send.in_transaction for send in sends)


def accept_one(session: Session, send: Send) -> dict[str, Any]:
    """As `accept`, for one request that shares its transaction with no other."""
    send.in_transaction = True
    [outcome] = accept(session, [send])
    if isinstance(outcome, Later):
        raise Conflict(KEY_IN_USE, retry_after=idempotency.RETRY_AFTER_SECONDS)
    if isinstance(outcome, Exception):
        raise outcome
    return outcome


def accept_for(session: Session, user: Principal, draft: SmsDraft) -> dict[str, Any]:
    """As `accept_one`, for a user who is known to be allowed to send."""
    choice = choose(session, user.user_id, draft.device_id)
    outcome = _insert(session, {0: _row(Asked(0, Send(None, draft), user, draft, choice), None, {})}, {})[0]
    if isinstance(outcome, Exception):
        raise outcome
    return outcome


def _read(place: int, send: Send, known: tuple[Principal, Choice | Refused] | None) -> Asked:
    if known is None:
        raise Unauthenticated
    user, choice = known
    require(user, "sms:send")
    if isinstance(send.draft, AppError):
        raise send.draft
    return Asked(place, send, user, send.draft, choice)


def _text(item: Asked, known_texts: Mapping[templates.Key, str]) -> str:
    """What the message says. Raises `Invalid` for an unknown template, and for placeholders without a value."""
    draft, message = item.draft, item.draft.message
    if draft.template_id is not None:
        if (item.user.user_id, draft.template_id) not in known_texts:
            raise Invalid(templates.UNKNOWN)
        message = known_texts[item.user.user_id, draft.template_id]
    elif draft.fields is None:
        return message
    return templates.filled(message, draft.fields or {})


def _row(item: Asked, now: datetime | None, known_texts: Mapping[templates.Key, str]) -> NewMessage:
    """The message to store. Raises what is wrong with the send."""
    draft, choice = item.draft, item.choice
    if draft.callback_url is not None:
        require(item.user, "sms:send", "webhooks")
    number = normalize_number(draft.recipient_number, item.user.default_region)
    if number is None:
        raise Invalid({"recipient_number": [NOT_A_NUMBER.format(name="recipient number")]})
    if isinstance(choice, Refused):
        raise choice
    due_at = later.due_at(draft.send_at, now)
    message = _text(item, known_texts)
    parts, encoding = segments(message)
    return NewMessage(
        message_id=item.send.message_id,
        user_id=item.user.user_id,
        device_id=choice.device_id,
        device_named=choice.named,
        recipient_number=number,
        message=message,
        price=choice.rate if draft.price is None else draft.price,
        my_id=draft.my_id,
        callback_url=draft.callback_url,
        sim_slot=draft.sim_slot,
        segments=parts,
        encoding=encoding,
        campaign_id=None,
        ignores_opt_out=bool(draft.ignore_opt_out),
        validity=draft.validity_period,
        due_at=due_at,
        scheduled_at=due_at,
    )


def _insert(
    session: Session, rows: dict[int, NewMessage], claims: Mapping[UUID, Claim]
) -> dict[int, dict[str, Any] | Exception]:
    """The answer to each that was stored; the others' recipients have opted out, or their keys were not to be had."""
    if not rows:
        return {}
    turns = _place(session, rows) if len(rows) <= placing.MAX_SENDS else {}
    stored = storing.insert_few(session, list(rows.values()), claims)
    present: dict[int, NewMessage] = {}
    for place, row in rows.items():
        if at := stored.places.get(row.message_id):
            # Of a batch that is run again the phone is that of the first time.
            present[place] = row if row.device_id == at.device_id else row._replace(device_id=at.device_id)
    placed = {place for place in turns.keys() & present.keys() if present[place].device_id == turns[place].device_id}
    _wake_or_route(session, [row for place, row in present.items() if place not in placed])
    for place in placed:
        waking.wake(session, *turns[place])

    def outcome(place: int, row: NewMessage) -> dict[str, Any] | Exception:
        if place in present:
            return answer(present[place]._asdict(), stored.places[row.message_id].id)
        return Refused(OPTED_OUT) if row.message_id in stored.opted_out else Later()

    return {place: outcome(place, row) for place, row in rows.items()}


def _place(session: Session, rows: dict[int, NewMessage]) -> dict[int, placing.Turn]:
    """Give phones to those of the rows that may have any, where they can have them at once."""
    open_to_all = {place: row for place, row in rows.items() if row.device_id is None and row.due_at is None}
    found = placing.place(session, Counter(row.user_id for row in open_to_all.values()))
    left = {user: iter(turns) for user, turns in found.items()}
    turns = {place: turn for place, row in open_to_all.items() if (turn := next(left.get(row.user_id, iter(())), None))}
    rows |= {
        place: row._replace(device_id=turns[place].device_id) for place, row in open_to_all.items() if place in turns
    }
    return turns


def _wake_or_route(session: Session, rows: Collection[NewMessage]) -> None:
    now = [row for row in rows if row.due_at is None]
    for user in {row.user_id for row in now if row.device_id is None}:
        outbound.nudge(session, TaskName.ROUTE, user)
    waking.wake_or_route(session, {(row.user_id, row.device_id) for row in now if row.device_id is not None})


def answer(row: Mapping[str, Any], message: int) -> dict[str, Any]:
    """The data of the answer to a send, from the message's row and number."""
    due = {"scheduled_at": timestamp(row["scheduled_at"])} if row["scheduled_at"] else {}
    return {
        "id": message,
        "message_id": str(row["message_id"]),
        "recipient_number": row["recipient_number"],
        "status": "pending",
        "price": plain_number(row["price"]),
        "is_charged": False,
        "direction": "outbound",
        "callback_url": row["callback_url"],
        "my_id": row["my_id"],
        "device_id": row["device_id"],
        "segments": row["segments"],
        "encoding": row["encoding"],
        **due,
    }
