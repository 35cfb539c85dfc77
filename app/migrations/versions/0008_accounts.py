"""accounts: normalized and proven addresses, sessions that end, enrollment keys of their phones, deletion"""

import logging

import sqlalchemy as sa
from alembic import op

from app.accounts.principals import ABILITIES
from app.core.emails import MAX_LENGTH, normalize

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

log = logging.getLogger(__name__)

_NOW = sa.text("clock_timestamp()")


def upgrade() -> None:
    op.add_column("users", sa.Column("email_key", sa.String(length=255), nullable=True))
    op.add_column("users", sa.Column("email_verified_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column(
        "users", sa.Column("approve_new_phones", sa.Boolean(), server_default=sa.text("false"), nullable=False)
    )
    op.add_column("users", sa.Column("withdraw_before", sa.DateTime(timezone=True), nullable=True))
    op.add_column("users", sa.Column("deleted_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column("tokens", sa.Column("enrolls", sa.Boolean(), server_default=sa.text("true"), nullable=False))
    op.add_column("devices", sa.Column("enrolled_by", sa.BigInteger(), nullable=True))
    op.add_column(
        "devices", sa.Column("awaits_approval", sa.Boolean(), server_default=sa.text("false"), nullable=False)
    )
    op.create_table(
        "account_codes",
        sa.Column("user_id", sa.BigInteger(), nullable=False),
        sa.Column("purpose", sa.String(length=10), nullable=False),
        sa.Column("secret_hash", sa.LargeBinary(), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=_NOW, nullable=False),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_account_codes_user_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("user_id", "purpose", name=op.f("pk_account_codes")),
        sa.UniqueConstraint("secret_hash", name=op.f("uq_account_codes_secret_hash")),
    )
    op.create_index(
        "ix_tokens_sessions_expires_at", "tokens", ["expires_at"], postgresql_where=sa.text("kind = 'session'")
    )
    for name in ("deleted_at", "withdraw_before"):
        op.create_index(f"ix_users_{name}", "users", [name], postgresql_where=sa.text(f"{name} IS NOT NULL"))
    _key_addresses()
    op.create_index(
        "uq_users_email_key", "users", [sa.literal_column("coalesce(email_key, lower(email))")], unique=True
    )
    op.drop_index("uq_users_email_lower", table_name="users")
    # Google said so, and nobody else ever could sign in.
    op.execute(
        "UPDATE users SET email_verified_at = created_at WHERE google_subject IS NOT NULL AND password_hash IS NULL"
    )
    op.execute(
        "UPDATE tokens SET expires_at = clock_timestamp() + interval '30 days'"
        " WHERE kind = 'session' AND expires_at IS NULL"
    )
    known = sa.bindparam("known", sorted(ABILITIES), type_=sa.ARRAY(sa.Text()))
    op.get_bind().execute(
        sa.text(
            "UPDATE tokens SET abilities = ARRAY(SELECT a FROM unnest(abilities) a WHERE a = ANY(:known))"
            " WHERE NOT abilities <@ :known"
        ).bindparams(known)
    )


def _key_addresses() -> None:
    """Of rows whose addresses turn out to be one, the one that Google knows keeps it, else the oldest. The others keep
    their rows, tokens and phones; their owner cannot sign in by address until the operator has sorted it out.
    """
    bind = op.get_bind()
    rows = bind.execute(
        sa.text("SELECT id, email FROM users ORDER BY google_subject IS NULL, id FOR NO KEY UPDATE")
    ).all()
    taken: set[str] = set()
    keyed = []
    for user_id, email in rows:
        key = normalize(email)
        if key in taken or len(key) > MAX_LENGTH:
            log.warning("the address of user %s is another user's in other letters", user_id)
            key = f"user-{user_id}"
        taken.add(key)
        keyed.append({"id": user_id, "key": key})
    if keyed:
        bind.execute(sa.text("UPDATE users SET email_key = :key WHERE id = :id"), keyed)


def downgrade() -> None:
    op.create_index("uq_users_email_lower", "users", [sa.literal_column("lower(email)")], unique=True)
    op.drop_index("uq_users_email_key", table_name="users")
    op.drop_index("ix_tokens_sessions_expires_at", table_name="tokens")
    op.drop_table("account_codes")
    op.drop_column("devices", "awaits_approval")
    op.drop_column("devices", "enrolled_by")
    op.drop_column("tokens", "enrolls")
    for name in ("deleted_at", "withdraw_before", "approve_new_phones", "email_verified_at", "email_key"):
        op.drop_column("users", name)
