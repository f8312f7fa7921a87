"""The feed of changes. It begins with the first release that writes it."""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

from homeroom.db.tables import SEQUENCE_TYPE

revision: str = "0039_changes"
down_revision: str | None = "0038_reason_codes"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    """Create the tables; on PostgreSQL a change gets the number of its transaction."""
    op.create_table(
        "change",
        sa.Column("seq", SEQUENCE_TYPE, autoincrement=True, nullable=False),
        sa.Column("xid", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("record_id", sa.Text(), nullable=False),
        sa.Column("user_id", sa.Text(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_change")),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("ix_change_xid_seq"), "change", ["xid", "seq"])
    op.create_index(op.f("ix_change_user_id"), "change", ["user_id"])
    op.create_table(
        "change_feed",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("epoch", sa.Text(), nullable=False),
        sa.Column("place", sa.Text(), nullable=False),
        sa.Column("base_seq", sa.BigInteger(), nullable=False),
        sa.Column("pruned_xid", sa.BigInteger(), nullable=False),
        sa.Column("pruned_seq", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_change_feed")),
    )
    if op.get_bind().dialect.name == "postgresql":
        op.execute(
            "ALTER TABLE change ALTER COLUMN xid"
            " SET DEFAULT CAST(CAST(pg_current_xact_id() AS text) AS bigint)"
        )


def downgrade() -> None:
    """Drop the tables."""
    op.drop_table("change_feed")
    op.drop_table("change")
