"""Indexes by which jobs are found and counted among a million completed ones."""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0075_job_search"
down_revision: str | None = "0073_ended_enrolments"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

_INDEXES = (
    ("ix_job_unfinished", ["seq", "state", "queue"], "state <> 'completed' AND pruned_at IS NULL"),
    ("ix_job_kind", ["kind", "seq"], "pruned_at IS NULL"),
)


def upgrade() -> None:
    """Create the indexes."""
    for name, columns, where in _INDEXES:
        condition = sa.text(where)
        op.create_index(name, "job", columns, sqlite_where=condition, postgresql_where=condition)


def downgrade() -> None:
    """Drop the indexes."""
    for name, _, _ in _INDEXES:
        op.drop_index(name, "job")
