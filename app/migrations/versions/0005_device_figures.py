"""figures of phones and their SIM cards"""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "device_deltas",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("device_id", sa.BigInteger(), nullable=False),
        sa.Column("sim_slot", sa.SmallInteger(), nullable=False),
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("kind", sa.String(length=10), nullable=False),
        sa.Column("detail", sa.String(length=20), nullable=False),
        sa.Column("n", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_device_deltas")),
        postgresql_with={
            "autovacuum_vacuum_scale_factor": "0",
            "autovacuum_vacuum_threshold": "1000",
            "autovacuum_vacuum_insert_scale_factor": "0",
            "autovacuum_vacuum_insert_threshold": "10000",
            "autovacuum_analyze_scale_factor": "0",
            "autovacuum_analyze_threshold": "5000",
            "autovacuum_vacuum_cost_delay": "0",
        },
    )
    op.create_index(op.f("ix_device_deltas_device_id_id"), "device_deltas", ["device_id", "id"], unique=False)
    op.create_table(
        "device_totals",
        sa.Column("device_id", sa.BigInteger(), nullable=False),
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("sim_slot", sa.SmallInteger(), nullable=False),
        sa.Column("kind", sa.String(length=10), nullable=False),
        sa.Column("detail", sa.String(length=20), nullable=False),
        sa.Column("n", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("device_id", "day", "sim_slot", "kind", "detail", name=op.f("pk_device_totals")),
    )
    op.create_index(op.f("ix_device_totals_day"), "device_totals", ["day"], unique=False)


def downgrade() -> None:
    op.drop_table("device_totals")
    op.drop_table("device_deltas")
