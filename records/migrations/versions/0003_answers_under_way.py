"""What Stop needs to find: the answers that are being written, in whichever process."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.create_table(
        "answers_under_way",
        sa.Column("request_id", sa.String(length=64), nullable=False),
        sa.Column("surface", sa.String(length=255), nullable=False),
        sa.Column("tenant", sa.String(length=255), nullable=False),
        sa.Column("conversation", sa.String(length=255), nullable=False),
        sa.Column("thread", sa.String(length=255), nullable=False),
        sa.Column("person", sa.String(length=255), nullable=False),
        sa.Column("begun_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("request_id"),
    )
    op.create_index(
        "answers_under_way_place",
        "answers_under_way",
        ["surface", "tenant", "conversation", "thread", "person"],
        unique=False,
    )
