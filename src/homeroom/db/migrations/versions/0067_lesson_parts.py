"""Parts of lessons: those that people edited, and those that the next run writes."""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0067_lesson_parts"
down_revision: str | None = "0065_plan_schedule"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    """Add the columns; null: edited as a whole, and to be written as a whole."""
    op.add_column("lesson_plan_lesson", sa.Column("edited_parts", sa.Text(), nullable=True))
    op.add_column("lesson_plan_lesson", sa.Column("requested", sa.Text(), nullable=True))


def downgrade() -> None:
    """Drop the columns."""
    op.drop_column("lesson_plan_lesson", "requested")
    op.drop_column("lesson_plan_lesson", "edited_parts")
