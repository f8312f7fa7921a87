"""Downtimes, and the time at which a missed slot was reported.

Slots that were missed before were reported one by one, so they count as reported.
"""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0040_downtime"
down_revision: str | None = "0039_changes"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    """Add the column and the tables; the previous release uses none of them."""
    op.add_column("schedule_slot", sa.Column("reported_at", sa.BigInteger(), nullable=True))
    op.execute("UPDATE schedule_slot SET reported_at = fired_at WHERE state = 'missed'")
    op.create_table(
        "uptime",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("alive_at", sa.BigInteger(), nullable=False),
        sa.Column("latest_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_uptime")),
    )
    op.create_table(
        "downtime",
        sa.Column("started_at", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("ended_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("started_at", name=op.f("pk_downtime")),
    )


def downgrade() -> None:
    """Drop the tables and the column."""
    op.drop_table("downtime")
    op.drop_table("uptime")
    op.drop_column("schedule_slot", "reported_at")
