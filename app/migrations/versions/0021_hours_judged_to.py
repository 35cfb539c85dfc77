"""how far an account's waiting messages were judged by changed hours"""

import sqlalchemy as sa
from alembic import op

revision = "0021"
down_revision = "0020"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("users", sa.Column("hours_judged_to", sa.BigInteger(), nullable=True))


def downgrade() -> None:
    op.drop_column("users", "hours_judged_to")
