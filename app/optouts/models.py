"""Who does not want messages, and what an account does about those who say so."""

from datetime import datetime
from enum import StrEnum

from sqlalchemy import BigInteger, Index, String, Text, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Mapped, mapped_column

from app.core.database import Base, BigId, CreatedAt, one_of


class By(StrEnum):
    """Whose word it is that a number gets nothing more: its own, by a keyword, or the account's."""

    STOP = "STOP"
    OWNER = "owner"
    IMPORT = "import"


class OptOut(Base):
    """A number that an account sends nothing to.

    `look_at`: when the messages that wait for it are to be looked for, and withdrawn; null once nothing that was being
    written while it was made can come any more.
    """

    __tablename__ = "opt_outs"
    __table_args__ = (
        Index("uq_opt_outs_user_number", "user_id", "phone_number", unique=True),
        Index(None, "user_id", "id"),
        Index(None, "user_id", "look_at", postgresql_where=text("look_at IS NOT NULL")),
        one_of("by", By),
    )

    id: Mapped[BigId]
    user_id: Mapped[int]
    phone_number: Mapped[str] = mapped_column(String(32))
    by: Mapped[str] = mapped_column(String(8))
    # Of one that is by keyword: what was written, and the number of that message, null where it is not stored.
    keyword: Mapped[str | None] = mapped_column(String(80))
    message_id: Mapped[int | None]
    note: Mapped[str | None] = mapped_column(Text)
    since: Mapped[CreatedAt]
    look_at: Mapped[datetime | None]


class OptOutSettings(Base):
    """What an account does about keywords; one without a row has the defaults."""

    __tablename__ = "opt_out_settings"

    user_id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    keywords: Mapped[bool] = mapped_column(server_default=text("true"))
    # Added to the built-in ones.
    opt_out_words: Mapped[list[str]] = mapped_column(ARRAY(Text), server_default=text("'{}'"))
    # In place of the built-in ones.
    opt_in_words: Mapped[list[str] | None] = mapped_column(ARRAY(Text))
    opt_out_reply: Mapped[str | None] = mapped_column(Text)
    opt_in_reply: Mapped[str | None] = mapped_column(Text)
    help_reply: Mapped[str | None] = mapped_column(Text)
    events: Mapped[bool] = mapped_column(server_default=text("false"))


class OptOutReply(Base):
    """When a number was last answered by itself; kept for as long as it is not answered again."""

    __tablename__ = "opt_out_replies"
    __table_args__ = (Index(None, "sent_at"),)

    user_id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    phone_number: Mapped[str] = mapped_column(String(32), primary_key=True)
    sent_at: Mapped[CreatedAt]
