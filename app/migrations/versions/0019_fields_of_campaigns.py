"""fields of campaigns"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("campaign_left_out", sa.Column("sentence", sa.Text(), server_default=sa.text("''"), nullable=False))
    op.add_column(
        "campaigns",
        sa.Column("columns", postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'[]'"), nullable=False),
    )


def downgrade() -> None:
    op.drop_column("campaigns", "columns")
    op.drop_column("campaign_left_out", "sentence")
