"""The limit of single sends: the same route, parsed, checked and authenticated, without the write.

`uvicorn benchmarks.unwritten:create_app --factory`
"""

from collections.abc import Mapping, Sequence
from typing import Any
from unittest.mock import patch

from sqlalchemy.orm import Session
from starlette.types import ASGIApp

from app import main
from app.messages.accepting import intake, requests
from app.messages.storing import Claim, NewMessage


def _accept(session: Session, sends: list[requests.Send]) -> Sequence[dict[str, Any] | Exception]:
    with patch.object(intake, "_insert", _answers):
        return intake.accept(session, sends)


def _answers(_: Session, rows: dict[int, NewMessage], _claims: Mapping[int, Claim]) -> dict[int, dict[str, Any]]:
    return {place: intake.answer(row._asdict(), 0) for place, row in rows.items()}


def create_app() -> ASGIApp:
    """The gateway whose sends are not stored."""
    with patch.object(intake, "accept", _accept):
        return main.create_app()
