"""Codes of reasons that are stored as text; earlier rows have none."""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0038_reason_codes"
down_revision: str | None = "0037_places_by_the_thousand"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

_ADDED = (
    ("delivery", "reason_code"),
    ("completion_step", "skip_code"),
    ("job", "reason_code"),
)


def upgrade() -> None:
    """Add the columns; the previous release leaves them empty."""
    for table, column in _ADDED:
        op.add_column(table, sa.Column(column, sa.Text(), nullable=True))


def downgrade() -> None:
    """Drop the columns."""
    for table, column in _ADDED:
        op.drop_column(table, column)
