"""Sums of events that are deleted after HOMEROOM_EVENT_RETENTION."""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0035_progress_fold"
down_revision: str | None = "0034_carried_over"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    """Create the table; it stays empty until the setting is set."""
    op.create_table(
        "progress_fold",
        sa.Column("user_id", sa.Text(), nullable=False),
        sa.Column("course_id", sa.Text(), nullable=False),
        sa.Column("opened_at", sa.BigInteger(), nullable=False),
        sa.Column("unattributed", sa.BigInteger(), nullable=False),
        sa.Column("last_at", sa.BigInteger(), nullable=False),
        sa.Column("events", sa.BigInteger(), nullable=False),
        sa.Column("time_spent", sa.BigInteger(), nullable=False),
        sa.Column("chapters", sa.Text(), nullable=False),
        sa.Column("quizzes", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("user_id", "course_id", "opened_at", name=op.f("pk_progress_fold")),
    )


def downgrade() -> None:
    """Refuse after a compaction: without the table learners would lose progress."""
    [[folded]] = op.get_bind().execute(sa.text("SELECT count(*) FROM progress_fold"))
    if folded:
        raise RuntimeError("Restore the backup that was made before the upgrade.")
    op.drop_table("progress_fold")
