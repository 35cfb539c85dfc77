"""attachments: what is in the parts of MMS moves to a table of its own

The version before, while it still serves, shows parts that were moved without their content, and goes on keeping new
ones in the message's row, where this version finds them.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

_MOVE = """
    WITH found AS (
        SELECT m.id, m.user_id,
               jsonb_agg(part.value - 'data' ORDER BY part.ordinality) AS told,
               array_agg(part.value ->> 'data' ORDER BY part.ordinality) AS data,
               sum(coalesce(length(part.value ->> 'data'), 0)) AS size
        FROM messages m, jsonb_array_elements(m.attachments) WITH ORDINALITY part
        WHERE m.kind = 'mms' AND jsonb_typeof(m.attachments) = 'array'
        GROUP BY m.id
    ), moved AS (
        INSERT INTO message_attachments (message_id, user_id, size, data)
        SELECT id, user_id, greatest(size, 4096), data FROM found WHERE size > 0
        RETURNING message_id
    )
    UPDATE messages m SET attachments = found.told FROM found, moved
    WHERE moved.message_id = found.id AND m.id = found.id
"""
_MOVE_BACK = """
    UPDATE messages m SET attachments = (
        SELECT jsonb_agg(part.value || jsonb_build_object('data', a.data[part.ordinality]) ORDER BY part.ordinality)
        FROM jsonb_array_elements(m.attachments) WITH ORDINALITY part)
    FROM message_attachments a WHERE a.message_id = m.id
"""


def upgrade() -> None:
    op.create_table(
        "message_attachments",
        sa.Column("message_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("user_id", sa.BigInteger(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("data", postgresql.ARRAY(sa.Text()), nullable=False),
        sa.PrimaryKeyConstraint("message_id", name=op.f("pk_message_attachments")),
    )
    op.create_index(
        op.f("ix_message_attachments_user_id"), "message_attachments", ["user_id"], postgresql_include=["size"]
    )
    # To compress base64 costs more than it saves: pictures are compressed already.
    op.execute("ALTER TABLE message_attachments ALTER COLUMN data SET STORAGE EXTERNAL")
    op.execute(_MOVE)


def downgrade() -> None:
    op.execute(_MOVE_BACK)
    op.drop_table("message_attachments")
