"""What a received keyword does, in the transaction that keeps the message: its sender opts out or in, or is answered.

A number is answered by itself at most once in a day, whatever it writes, and only where its word changed something or
asked for help. So two gateways that answer each other end after one answer.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from operator import attrgetter
from typing import Any

from sqlalchemy import Row, RowMapping
from sqlalchemy.orm import Session

from app.core.ids import uuid7
from app.core.numbers import normalize_number, region_of
from app.messages import storing
from app.messages.dispatch import waking
from app.messages.segments import segments
from app.optouts import book, consent, replies, settings, words
from app.optouts.models import By
from app.optouts.settings import Rules
from app.optouts.words import Meaning
from app.webhooks import outbox

Key = tuple[int, str]  # an account and a number


@dataclass(frozen=True, slots=True)
class InboundText:
    """A text that a phone received; `message_id` is null where it is not stored."""

    device: RowMapping
    sender: str | None
    text: str | None
    sim_slot: int | None
    message_id: int | None
    at: datetime


@dataclass(frozen=True, slots=True)
class _Word:
    meaning: Meaning
    heard: InboundText


def apply(session: Session, heard: Sequence[InboundText]) -> None:
    """Do what the keywords among the texts say. The last act of its transaction."""
    maybe = [each for each in heard if each.sender and words.may_be(each.text)]
    if not maybe:
        return
    rules = settings.rules_of(session, {each.device["user_id"] for each in maybe})
    asked = _asked(maybe, rules)
    if not asked:
        return
    added = book.add(session, [_new(key, word) for key, word in asked.items() if word.meaning is Meaning.OPT_OUT])
    back = book.take_back(session, [key for key, word in asked.items() if word.meaning is Meaning.OPT_IN])
    changed = {(row.user_id, row.phone_number): row for row in (*added, *back)}
    _write_events(session, [(asked[key], row) for key, row in changed.items() if rules[key[0]].events])
    _answer(
        session,
        {
            key: (reply, word.heard)
            for key, word in asked.items()
            if (key in changed or word.meaning is Meaning.HELP) and (reply := rules[key[0]].replies[word.meaning])
        },
    )
    consent.settle(session, {row.user_id for row in added})


def _asked(heard: Sequence[InboundText], rules: dict[int, Rules]) -> dict[Key, _Word]:
    """The word of each number that counts: its last one; a call for help is none where there is another."""
    asked: dict[Key, _Word] = {}
    for each in sorted(heard, key=attrgetter("at")):
        user = each.device["user_id"]
        known = rules[user].keywords
        meaning = known.meaning(each.text or "") if known else None
        if meaning is None:
            continue
        number = normalize_number(each.sender or "", rules[user].region or region_of(each.device["phone_number"]))
        if number and not (meaning is Meaning.HELP and (user, number) in asked):
            asked[user, number] = _Word(meaning, each)
    return asked


def _new(key: Key, word: _Word) -> book.New:
    return book.New(*key, By.STOP, None, (word.heard.text or "").strip(), word.heard.message_id)


def _write_events(session: Session, changed: Sequence[tuple[_Word, Row[Any]]]) -> None:
    events: list[outbox.WebhookEvent] = []
    for word, row in changed:
        name: outbox.EventName = "opted_out" if word.meaning is Meaning.OPT_OUT else "opted_in"
        data = book.shown(row).model_dump(mode="json")
        events.append(outbox.WebhookEvent(row.user_id, "incoming", name, data, word.heard.message_id))
    outbox.write(session, events)


def _answer(session: Session, wanted: dict[Key, tuple[str, InboundText]]) -> None:
    """Send the answers to those who have had none for a day, from the phone that they wrote to."""
    answers = [_message(key, *wanted[key]) for key in replies.take_turns(session, wanted)] if wanted else []
    if answers:
        storing.insert_few(session, answers)
        waking.wake_or_route(session, {(each.user_id, each.device_id or 0) for each in answers})


def _message(key: Key, body: str, heard: InboundText) -> storing.NewMessage:
    device = heard.device
    parts, encoding = segments(body)
    return storing.NewMessage(
        message_id=uuid7(),
        user_id=key[0],
        device_id=device["id"] if device["is_active"] else None,
        device_named=False,
        recipient_number=key[1],
        message=body,
        price=device["sms_rate"],
        my_id=None,
        callback_url=None,
        sim_slot=heard.sim_slot if device["is_active"] else None,
        segments=parts,
        encoding=encoding,
        campaign_id=None,
        ignores_opt_out=True,
    )
