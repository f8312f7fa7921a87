"""Mark failed jobs that something waits for, and jobs that run alone.

Failed jobs of the previous release are outstanding until maintenance has asked their features.
"""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0044_outstanding_jobs"
down_revision: str | None = "0043_outstanding_steps"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

_INDEXES: tuple[tuple[str, list[str | sa.TextClause], str], ...] = (
    (
        "ix_job_prunable",
        ["queue", "state", sa.text("finished_at DESC"), sa.text("seq DESC")],
        "state = 'failed' AND pruned_at IS NULL AND outstanding IS NULL",
    ),
    ("ix_job_outstanding", ["seq"], "outstanding = 1"),
    ("ix_job_alone", ["seq"], "alone_from IS NOT NULL AND state = 'waiting'"),
)


def upgrade() -> None:
    """Add the columns and the table; the previous release leaves them empty."""
    op.add_column("job", sa.Column("alone_from", sa.Integer(), nullable=True))
    op.add_column("job", sa.Column("outstanding", sa.Integer(), nullable=True))
    op.execute("UPDATE job SET outstanding = 1 WHERE state = 'failed' AND pruned_at IS NULL")
    for name, columns, where in _INDEXES:
        op.create_index(
            name, "job", columns, sqlite_where=sa.text(where), postgresql_where=sa.text(where)
        )
    op.create_table(
        "log_salt",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("salt", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_log_salt")),
    )


def downgrade() -> None:
    """Drop the columns, the indexes and the table."""
    op.drop_table("log_salt")
    for name, _, _ in _INDEXES:
        op.drop_index(name, "job")
    op.drop_column("job", "outstanding")
    op.drop_column("job", "alone_from")
