"""The trace that a job belongs to."""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0072_job_trace"
down_revision: str | None = "0071_alerts"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    """Add the column; null: the job was added outside of a trace."""
    op.add_column("job", sa.Column("trace_context", sa.Text(), nullable=True))


def downgrade() -> None:
    """Drop the column."""
    op.drop_column("job", "trace_context")
