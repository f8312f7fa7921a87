"""Number of open places of each lesson."""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0049_lesson_open_places"
down_revision: str | None = "0048_corrected_times"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    """Add the column; null: written by an earlier release, counted when read."""
    op.add_column("lesson_plan_lesson", sa.Column("open_places", sa.Integer(), nullable=True))


def downgrade() -> None:
    """Drop the column."""
    op.drop_column("lesson_plan_lesson", "open_places")
