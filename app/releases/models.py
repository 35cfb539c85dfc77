"""Versions of the phone app offered by the update feed."""

from datetime import datetime

from sqlalchemy import String, Text, text
from sqlalchemy.orm import Mapped, mapped_column

from app.core.database import Base, BigId, CreatedAt


class Release(Base):
    """One published APK; the file lies in the data folder under its SHA-256."""

    __tablename__ = "releases"

    id: Mapped[BigId]
    version_name: Mapped[str] = mapped_column(String(64))
    version_code: Mapped[int]
    notes: Mapped[str] = mapped_column(Text, server_default=text("''"))
    mandatory: Mapped[bool] = mapped_column(server_default=text("false"))
    sha256: Mapped[str] = mapped_column(String(64))
    size: Mapped[int]
    created_at: Mapped[CreatedAt]
    withdrawn_at: Mapped[datetime | None]
