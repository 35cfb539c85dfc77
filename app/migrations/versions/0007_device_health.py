"""phones that fail or went quiet"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "device_health",
        sa.Column("device_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("sim_slot", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("sent", sa.Float(), server_default=sa.text("0"), nullable=False),
        sa.Column("failed", sa.Float(), server_default=sa.text("0"), nullable=False),
        sa.Column("last_sent_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("failing_since", sa.DateTime(timezone=True), nullable=True),
        sa.Column("rests", sa.SmallInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("rests_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("reason", sa.String(length=20), nullable=True),
        sa.PrimaryKeyConstraint("device_id", "sim_slot", name=op.f("pk_device_health")),
    )
    op.add_column("device_state", sa.Column("rests_until", sa.DateTime(timezone=True), nullable=True))
    op.add_column("device_state", sa.Column("sim_rests", postgresql.JSONB(astext_type=sa.Text()), nullable=True))
    op.add_column("device_state", sa.Column("failing_alert_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column("device_state", sa.Column("quiet_since", sa.DateTime(timezone=True), nullable=True))


def downgrade() -> None:
    for column in ("quiet_since", "failing_alert_at", "sim_rests", "rests_until"):
        op.drop_column("device_state", column)
    op.drop_table("device_health")
