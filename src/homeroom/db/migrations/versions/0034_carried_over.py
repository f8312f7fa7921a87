"""Store whether an attempt began with the progress of the previous one."""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0034_carried_over"
down_revision: str | None = "0033_course_rows_in_place"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    """Add the column; until now every attempt began without progress."""
    op.add_column(
        "enrolment", sa.Column("carried_over", sa.Integer, nullable=False, server_default="0")
    )


def downgrade() -> None:
    """Drop the column."""
    op.drop_column("enrolment", "carried_over")
