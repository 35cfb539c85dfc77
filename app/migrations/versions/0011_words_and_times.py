"""the words that rows may hold, and the times that belong to a status"""

from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

_CHECKS = {
    "messages": {
        "status": "status IN ('pending', 'sent', 'delivered', 'failed', 'cancelled', 'received')",
        "direction": "direction IN ('inbound', 'outbound')",
        "kind": "kind IN ('sms', 'data', 'mms')",
        "failed_by": "failed_by IN ('phone', 'gateway', 'owner')",
        **{
            f"{status}_at": f"status <> '{status}' OR {status}_at IS NOT NULL"
            for status in ("sent", "delivered", "failed", "cancelled", "received")
        },
    },
    "webhook_deliveries": {
        "hook": "hook IN ('callback', 'incoming', 'status')",
        "state": "state IN ('pending', 'delivered', 'failed')",
    },
    "webhook_urls": {"hook": "hook IN ('incoming', 'status')"},
}


def upgrade() -> None:
    # A table is locked for a moment only: rows that are there already, written by the same code, are not read.
    for table, checks in _CHECKS.items():
        added = ", ".join(
            f"ADD CONSTRAINT ck_{table}_{name} CHECK ({check}) NOT VALID" for name, check in checks.items()
        )
        op.execute(f"ALTER TABLE {table} {added}")


def downgrade() -> None:
    for table, checks in _CHECKS.items():
        dropped = ", ".join(f"DROP CONSTRAINT ck_{table}_{name}" for name in checks)
        op.execute(f"ALTER TABLE {table} {dropped}")
