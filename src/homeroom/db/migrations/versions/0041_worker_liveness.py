"""The lease of a worker, and which state of a silent one was logged."""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0041_worker_liveness"
down_revision: str | None = "0040_downtime"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    """Add the columns; workers of the previous release have the usual lease."""
    op.add_column(
        "worker",
        sa.Column("lease", sa.BigInteger(), nullable=False, server_default=sa.text("30000000")),
    )
    op.add_column(
        "worker", sa.Column("flagged", sa.Text(), nullable=False, server_default=sa.text("''"))
    )


def downgrade() -> None:
    """Drop the columns."""
    op.drop_column("worker", "flagged")
    op.drop_column("worker", "lease")
