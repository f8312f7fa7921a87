"""Changes of the schedule of a lesson plan."""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0065_plan_schedule"
down_revision: str | None = "0061_refused_recipients"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    """Add the columns; a plan of an earlier release has never been moved."""
    op.add_column(
        "lesson_plan",
        sa.Column("schedule_revision", sa.Integer(), nullable=False, server_default=sa.text("0")),
    )
    op.add_column("lesson_plan", sa.Column("scheduled_at", sa.BigInteger(), nullable=True))


def downgrade() -> None:
    """Drop the columns."""
    op.drop_column("lesson_plan", "scheduled_at")
    op.drop_column("lesson_plan", "schedule_revision")
