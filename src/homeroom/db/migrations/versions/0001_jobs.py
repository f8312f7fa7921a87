"""The job kernel."""

from __future__ import annotations

from collections.abc import Sequence

revision: str = "0001_jobs"
down_revision: str | None = None
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    """Create the tables of this room."""


def downgrade() -> None:
    """Drop the tables of this room."""
