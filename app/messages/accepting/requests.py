"""Single sends as they are asked for, before anything is written."""

from dataclasses import dataclass, field
from uuid import UUID

from app.accounts.principals import Principal, TokenCredentials
from app.core import tracing
from app.core.errors import AppError, Refused
from app.core.ids import uuid7
from app.messages.accepting.device_choice import Choice, Question
from app.messages.accepting.idempotency import Key
from app.messages.schemas import SmsDraft


@dataclass(slots=True)
class Send:
    """One request to send: who asks, and the draft, or what is wrong with it. Who asks is judged first.

    `in_transaction`: its account has the guard against the same content, which takes more than one statement.
    """

    credentials: TokenCredentials | None
    draft: SmsDraft | AppError
    idempotency_key: str | None = None
    request_hash: bytes = b""
    message_id: UUID = field(default_factory=uuid7)
    in_transaction: bool = False
    trace: str | None = field(default_factory=tracing.current)

    @property
    def question(self) -> Question | None:
        """Who asks for which phone; nobody without a token."""
        if self.credentials is None:
            return None
        return self.credentials, None if isinstance(self.draft, AppError) else self.draft.device_id


@dataclass(slots=True)
class Asked:
    """A send of somebody who may send, whose draft can be read, and what the phone it asks for comes to."""

    place: int
    send: Send
    user: Principal
    draft: SmsDraft
    choice: Choice | Refused

    @property
    def key(self) -> Key | None:
        """Its idempotency key, if any."""
        return None if self.send.idempotency_key is None else (self.user.user_id, self.send.idempotency_key)
