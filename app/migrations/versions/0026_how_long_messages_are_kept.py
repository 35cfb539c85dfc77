"""how long messages are kept"""

import sqlalchemy as sa
from alembic import op

revision = "0026"
down_revision = "0025"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("campaigns", sa.Column("recipients_deleted_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column("users", sa.Column("keep_messages_days", sa.SmallInteger(), nullable=True))
    op.add_column("users", sa.Column("keep_incoming_days", sa.SmallInteger(), nullable=True))


def downgrade() -> None:
    op.drop_column("users", "keep_incoming_days")
    op.drop_column("users", "keep_messages_days")
    op.drop_column("campaigns", "recipients_deleted_at")
