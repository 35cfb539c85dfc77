"""frequency cap and guard against the same content"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("users", sa.Column("frequency_cap", postgresql.JSONB(), nullable=True))
    op.add_column("users", sa.Column("same_content_minutes", sa.BigInteger(), nullable=True))


def downgrade() -> None:
    op.drop_column("users", "same_content_minutes")
    op.drop_column("users", "frequency_cap")
