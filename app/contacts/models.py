"""Contacts and groups of them."""

from sqlalchemy import ForeignKey, Index, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from app.core.database import Base, BigId, CreatedAt


class Contact(Base):
    """A person with a number in E.164; a user has a number once."""

    __tablename__ = "contacts"
    __table_args__ = (
        Index("uq_contacts_user_number", "user_id", "phone_number", unique=True),
        Index(None, "user_id", "id"),
    )

    id: Mapped[BigId]
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"))
    name: Mapped[str | None] = mapped_column(String(255))
    phone_number: Mapped[str] = mapped_column(String(32))
    email: Mapped[str | None] = mapped_column(String(255))
    notes: Mapped[str | None] = mapped_column(Text)
    # Where its clock is known; else it is told by the number.
    time_zone: Mapped[str | None] = mapped_column(String(64))
    created_at: Mapped[CreatedAt]
    updated_at: Mapped[CreatedAt]


class ContactGroup(Base):
    """A named set of contacts."""

    __tablename__ = "contact_groups"
    __table_args__ = (Index(None, "user_id", "id"),)

    id: Mapped[BigId]
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"))
    name: Mapped[str] = mapped_column(String(255))
    created_at: Mapped[CreatedAt]
    updated_at: Mapped[CreatedAt]


class ContactGroupMember(Base):
    """A contact is in a group."""

    __tablename__ = "contact_group_members"
    __table_args__ = (Index(None, "contact_id"),)

    group_id: Mapped[int] = mapped_column(ForeignKey("contact_groups.id", ondelete="CASCADE"), primary_key=True)
    contact_id: Mapped[int] = mapped_column(ForeignKey("contacts.id", ondelete="CASCADE"), primary_key=True)
