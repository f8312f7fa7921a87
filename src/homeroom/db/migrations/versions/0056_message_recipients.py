"""Recipients of messages whom another directory than the built-in one describes."""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0056_message_recipients"
down_revision: str | None = "0055_groups"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    """Add the column; messages of earlier releases are to people of the directory."""
    op.add_column("notification", sa.Column("recipient", sa.Text()))


def downgrade() -> None:
    """Drop the column: the previous release writes to people of the directory alone."""
    op.drop_column("notification", "recipient")
