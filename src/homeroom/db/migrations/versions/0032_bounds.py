"""Index completed enrolments by their end, and the quarantine by learner."""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0032_bounds"
down_revision: str | None = "0031_activity"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    """Create the indexes; the first one covers completed enrolments only."""
    completed = sa.text("status = 'completed'")
    op.create_index(
        "ix_enrolment_completed",
        "enrolment",
        ["course_id", "completed_at", "user_id", "attempt"],
        sqlite_where=completed,
        postgresql_where=completed,
    )
    op.create_index("ix_progress_quarantine_user_id", "progress_quarantine", ["user_id"])


def downgrade() -> None:
    """Drop the indexes."""
    op.drop_index("ix_progress_quarantine_user_id", "progress_quarantine")
    op.drop_index("ix_enrolment_completed", "enrolment")
