"""Circuit breakers of partners, and the jobs that they hold."""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0045_partner_breakers"
down_revision: str | None = "0044_outstanding_jobs"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    """Create the table; no job is held, and the previous release holds none."""
    op.create_table(
        "partner",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("opened_at", sa.BigInteger(), nullable=True),
        sa.Column("probe_at", sa.BigInteger(), nullable=True),
        sa.Column("probes", sa.Integer(), nullable=False),
        sa.Column("closed_at", sa.BigInteger(), nullable=False),
        sa.Column("released_at", sa.BigInteger(), nullable=False),
        sa.Column("last_error", sa.Text(), nullable=True),
        sa.Column("last_status", sa.Integer(), nullable=True),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_partner")),
    )
    op.add_column("job", sa.Column("held_by", sa.Text(), nullable=True))
    where = sa.text("state = 'delayed' AND held_by IS NOT NULL")
    op.create_index(
        "ix_job_held", "job", ["held_by", "seq"], sqlite_where=where, postgresql_where=where
    )


def downgrade() -> None:
    """Drop table and column; held jobs run at once, as the previous release does."""
    op.execute("UPDATE job SET run_at = 0 WHERE state = 'delayed' AND held_by IS NOT NULL")
    op.drop_index("ix_job_held", table_name="job")
    op.drop_column("job", "held_by")
    op.drop_table("partner")
