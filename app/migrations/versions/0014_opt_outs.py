"""numbers that have opted out"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "opt_out_replies",
        sa.Column("user_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("phone_number", sa.String(length=32), nullable=False),
        sa.Column("sent_at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False),
        sa.PrimaryKeyConstraint("user_id", "phone_number", name=op.f("pk_opt_out_replies")),
    )
    op.create_index(op.f("ix_opt_out_replies_sent_at"), "opt_out_replies", ["sent_at"], unique=False)
    op.create_table(
        "opt_out_settings",
        sa.Column("user_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("keywords", sa.Boolean(), server_default=sa.text("true"), nullable=False),
        sa.Column("opt_out_words", postgresql.ARRAY(sa.Text()), server_default=sa.text("'{}'"), nullable=False),
        sa.Column("opt_in_words", postgresql.ARRAY(sa.Text()), nullable=True),
        sa.Column("opt_out_reply", sa.Text(), nullable=True),
        sa.Column("opt_in_reply", sa.Text(), nullable=True),
        sa.Column("help_reply", sa.Text(), nullable=True),
        sa.Column("events", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.PrimaryKeyConstraint("user_id", name=op.f("pk_opt_out_settings")),
    )
    op.create_table(
        "opt_outs",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("user_id", sa.BigInteger(), nullable=False),
        sa.Column("phone_number", sa.String(length=32), nullable=False),
        sa.Column("by", sa.String(length=8), nullable=False),
        sa.Column("keyword", sa.String(length=80), nullable=True),
        sa.Column("message_id", sa.BigInteger(), nullable=True),
        sa.Column("note", sa.Text(), nullable=True),
        sa.Column("since", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False),
        sa.Column("look_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("by IN ('STOP', 'owner', 'import')", name=op.f("ck_opt_outs_by")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_opt_outs")),
    )
    op.create_index(
        op.f("ix_opt_outs_look_at"),
        "opt_outs",
        ["look_at"],
        unique=False,
        postgresql_where=sa.text("look_at IS NOT NULL"),
    )
    op.create_index(op.f("ix_opt_outs_user_id_id"), "opt_outs", ["user_id", "id"], unique=False)
    op.create_index("uq_opt_outs_user_number", "opt_outs", ["user_id", "phone_number"], unique=True)
    op.add_column(
        "messages", sa.Column("ignores_opt_out", sa.Boolean(), server_default=sa.text("false"), nullable=False)
    )


def downgrade() -> None:
    op.drop_column("messages", "ignores_opt_out")
    op.drop_table("opt_outs")
    op.drop_table("opt_out_settings")
    op.drop_table("opt_out_replies")
