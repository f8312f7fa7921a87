"""Issued credentials."""

from __future__ import annotations

from collections.abc import Sequence

revision: str = "0007_credentials"
down_revision: str | None = "0006_progress"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    """Create the tables of this room."""


def downgrade() -> None:
    """Drop the tables of this room."""
