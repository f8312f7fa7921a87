"""Ended enrolments, archived courses and suspended people."""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0073_ended_enrolments"
down_revision: str | None = "0072_job_trace"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    """Add the columns; null: not ended, not archived, not suspended."""
    op.add_column("enrolment", sa.Column("ended_at", sa.BigInteger(), nullable=True))
    op.add_column("course", sa.Column("archived_at", sa.BigInteger(), nullable=True))
    op.add_column("person", sa.Column("suspended_at", sa.BigInteger(), nullable=True))


def downgrade() -> None:
    """Drop the columns."""
    op.drop_column("person", "suspended_at")
    op.drop_column("course", "archived_at")
    op.drop_column("enrolment", "ended_at")
