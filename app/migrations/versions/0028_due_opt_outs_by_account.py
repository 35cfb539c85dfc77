"""due opt-outs by account"""

import sqlalchemy as sa
from alembic import op

revision = "0028"
down_revision = "0027"
branch_labels = None
depends_on = None


def upgrade() -> None:
    _replace("ix_opt_outs_look_at", "ix_opt_outs_user_id_look_at", ["user_id", "look_at"])


def downgrade() -> None:
    _replace("ix_opt_outs_user_id_look_at", "ix_opt_outs_look_at", ["look_at"])


def _replace(old: str, new: str, columns: list[str]) -> None:
    # In this order, because nobody may even read the table from when an index is dropped until the commit.
    op.create_index(new, "opt_outs", columns, postgresql_where=sa.text("look_at IS NOT NULL"))
    op.drop_index(old, "opt_outs")
