"""Conversations: the list, one of them, and answering."""

from typing import Annotated, Any
from urllib.parse import unquote

from fastapi import APIRouter, Response
from pydantic import AfterValidator
from sqlalchemy.orm import Session

from app.contacts import book
from app.contacts.schemas import ContactFilter
from app.core.database import transaction
from app.core.errors import AppError
from app.core.numbers import normalize_number
from app.core.pages import Paging
from app.core.security import random_text
from app.messages import conversations as talks
from app.optouts import book as optouts
from app.web import shown
from app.web.messages import KEY_LENGTH, send_one
from app.web.pages import PageRoute, go, page
from app.web.visits import Posts, SignedIn, Visit

router = APIRouter(include_in_schema=False, route_class=PageRoute)

MAX_SEARCH = 100
_OTHERS_SHOWN = 20

# As `shown.conversation` writes it.
Number = Annotated[str, AfterValidator(unquote)]


@router.get("/conversations")
def conversations(visit: SignedIn) -> Response:
    search = visit.query("search").strip()[:MAX_SEARCH]
    with transaction() as session:
        found = talks.latest(session, visit.me.user_id, search)
        template = "conversations_rows.html" if visit.is_htmx else "conversations.html"
        return page(
            visit,
            template,
            live="messages",
            search=search,
            talks=found,
            others=_others(session, visit, search, {talk.number for talk in found}) if search else [],
        )


def _others(session: Session, visit: Visit, search: str, known: set[str]) -> list[tuple[str, str | None]]:
    """Numbers with names that are searched for, and with whom nobody talked lately: contacts, and a number as typed."""
    wanted = Paging(1, _OTHERS_SHOWN, "", ())
    contacts = book.page(session, visit.me.user_id, ContactFilter(search=search), wanted).data
    found: dict[str, str | None] = {contact.phone_number: contact.name for contact in contacts}
    if typed := normalize_number(search, visit.me.default_region):
        found.setdefault(typed, None)
    return [(number, name) for number, name in found.items() if number not in known]


@router.get("/conversations/{number:path}/now")
def conversation_now(visit: SignedIn, number: Number) -> Response:
    with transaction() as session:
        return page(visit, "conversation_now.html", **_talk(session, visit, number))


@router.get("/conversations/{number:path}")
def conversation(visit: SignedIn, number: Number) -> Response:
    return _conversation(visit, number)


def _conversation(visit: Visit, number: str, error: AppError | None = None) -> Response:
    with transaction() as session:
        return page(
            visit,
            "conversation.html",
            error=error,
            live="messages",
            key=visit.given("key") or random_text(KEY_LENGTH),
            **_talk(session, visit, number),
        )


def _talk(session: Session, visit: Visit, number: str) -> dict[str, Any]:
    answered = normalize_number(number, visit.me.default_region)
    known = answered or number
    messages = talks.of_number(session, visit.me, number, known)
    talks.note_read(session, visit.me.user_id, number, messages)
    return {
        "number": number,
        "name": book.names_of(session, visit.me.user_id, [known]).get(known),
        "messages": messages,
        "opted_out": optouts.of_number(session, visit.me.user_id, known),
        "can_answer": answered is not None,
    }


@router.post("/conversations/{number:path}")
def answer(visit: Posts, number: Number) -> Response:
    """Answer by the phone that the number wrote to."""
    try:
        with transaction() as session:
            phone = talks.phone_that_received(session, visit.me.user_id, number)
        typed = {name: visit.given(name) for name in ("message", "ignore_opt_out")}
        send_one(visit, typed | {"recipient_number": number, "device_id": phone})
    except AppError as error:
        return _conversation(visit, number, error)
    return go(shown.conversation(number))
