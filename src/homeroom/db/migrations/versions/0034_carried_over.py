"""Say of an attempt whether it began with what the one before it has, or from nothing."""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0034_carried_over"
down_revision: str | None = "0033_course_rows_in_place"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    """Add the column; until now every attempt began from nothing."""
    op.add_column(
        "enrolment", sa.Column("carried_over", sa.Integer, nullable=False, server_default="0")
    )


def downgrade() -> None:
    """Drop the column."""
    op.drop_column("enrolment", "carried_over")
