"""allowed hours, time zones, and phones that stay with a number"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None


def upgrade() -> None:
    stored = postgresql.JSONB(none_as_null=True, astext_type=sa.Text())
    op.add_column("users", sa.Column("sticky_phone", sa.Boolean(), server_default=sa.text("false"), nullable=False))
    op.add_column("users", sa.Column("time_zone", sa.String(length=64), nullable=True))
    op.add_column("users", sa.Column("country_zones", stored, nullable=True))
    op.add_column("users", sa.Column("allowed_hours", stored, nullable=True))
    op.add_column("users", sa.Column("hours_set_at", sa.DateTime(timezone=True), nullable=True))
    op.create_index(
        op.f("ix_users_hours_set_at"),
        "users",
        ["hours_set_at"],
        unique=False,
        postgresql_where=sa.text("hours_set_at IS NOT NULL"),
    )
    op.add_column("contacts", sa.Column("time_zone", sa.String(length=64), nullable=True))
    # The queue is short.
    op.add_column("message_queue", sa.Column("closes_at", sa.DateTime(timezone=True), nullable=True))
    op.create_index(
        op.f("ix_message_queue_closes_at"),
        "message_queue",
        ["closes_at"],
        unique=False,
        postgresql_where=sa.text("closes_at IS NOT NULL AND stage = 0"),
    )


def downgrade() -> None:
    op.drop_column("message_queue", "closes_at")
    op.drop_column("contacts", "time_zone")
    for column in ("hours_set_at", "allowed_hours", "country_zones", "time_zone", "sticky_phone"):
        op.drop_column("users", column)
