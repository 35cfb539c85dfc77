"""`POST /api/sms`, answered in front of the framework: concurrent sends share a transaction."""

import hashlib

from pydantic_core import to_json
from starlette.types import Receive, Scope, Send

from app.core import ignored
from app.core.batching import Batcher
from app.core.bodies import header, parse_body
from app.core.direct import Call
from app.core.edge import respond
from app.core.errors import AppError
from app.core.reading import AccountOf, read_body
from app.core.security import bearer, parse_token
from app.core.validation import read
from app.messages.accepting import idempotency, intake, requests
from app.messages.schemas import SmsDraft

QUEUED = "SMS queued for sending"


class Sending:
    """Reads single sends and gathers them into batches."""

    def __init__(self, account_of: AccountOf) -> None:
        self._account_of = account_of
        self._accept = Batcher("accept", intake.accept, intake.is_one_statement)
        # The framework has the path's other methods.
        self.calls = (Call("POST", "/api/sms", self._send, alone=False),)

    async def _send(self, scope: Scope, receive: Receive, send: Send) -> None:
        raw = await read_body(scope, receive, self._account_of)
        token = bearer(header(scope, b"authorization"))
        key = header(scope, b"idempotency-key")
        unread_fields = ignored.collect()
        # Without a name for it: what is wrong with the draft is raised here, and would name itself.
        data = await self._accept.submit(
            requests.Send(
                credentials=parse_token(token) if token else None,
                draft=_draft(raw, header(scope, b"content-type"), key),
                idempotency_key=key or None,
                request_hash=hashlib.sha256(raw).digest() if key else b"",
            )
        )
        if span := scope.get("span"):
            span.note({"smsfleet.message": data["id"]})
        await respond(
            send, 201, to_json({"success": True, "message": QUEUED, "data": data}), ignored.headers(unread_fields)
        )


def _draft(raw: bytes, content_type: str | None, key: str | None) -> SmsDraft | AppError:
    try:
        draft = read(SmsDraft, parse_body(raw, content_type))
        idempotency.checked(key)
    except AppError as error:
        return error
    return draft
