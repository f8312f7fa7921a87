"""The corrected time of an event of a device with a wrong clock."""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0048_corrected_times"
down_revision: str | None = "0047_stream_tickets"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    """Add the column: null, as in all rows before, where nothing was corrected."""
    op.add_column("progress_event", sa.Column("corrected_at", sa.BigInteger(), nullable=True))


def downgrade() -> None:
    """Drop the column."""
    op.drop_column("progress_event", "corrected_at")
