"""campaigns paused by a restore"""

from alembic import op

revision = "0025"
down_revision = "0024"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("""
        ALTER TABLE campaigns DROP CONSTRAINT ck_campaigns_paused_by, ADD CONSTRAINT ck_campaigns_paused_by
        CHECK (paused_by IN ('owner', 'canary', 'stop_rule', 'end_at', 'plan', 'restore')) NOT VALID
    """)


def downgrade() -> None:
    op.execute("UPDATE campaigns SET paused_by = 'owner' WHERE paused_by = 'restore'")
    op.execute("UPDATE campaigns SET reason_code = NULL, reason = NULL WHERE reason_code = 'restored'")
    op.execute("""
        ALTER TABLE campaigns DROP CONSTRAINT ck_campaigns_paused_by, ADD CONSTRAINT ck_campaigns_paused_by
        CHECK (paused_by IN ('owner', 'canary', 'stop_rule', 'end_at', 'plan')) NOT VALID
    """)
