"""webhook targets that never accepted anything"""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # Of targets that are there already nobody knows it, so they count as ones that have.
    op.add_column(
        "webhook_targets", sa.Column("ever_accepted", sa.Boolean(), server_default=sa.text("true"), nullable=False)
    )
    op.alter_column("webhook_targets", "ever_accepted", server_default=sa.text("false"))
    op.add_column("webhook_targets", sa.Column("failing_since", sa.DateTime(timezone=True), nullable=True))


def downgrade() -> None:
    op.drop_column("webhook_targets", "failing_since")
    op.drop_column("webhook_targets", "ever_accepted")
