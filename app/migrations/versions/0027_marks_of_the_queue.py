"""marks of the queue"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0027"
down_revision = "0026"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "queue_marks",
        sa.Column("user_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("device_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("numbers", postgresql.INT8MULTIRANGE(), nullable=False),
        sa.PrimaryKeyConstraint("user_id", "device_id", name=op.f("pk_queue_marks")),
    )


def downgrade() -> None:
    op.drop_table("queue_marks")
