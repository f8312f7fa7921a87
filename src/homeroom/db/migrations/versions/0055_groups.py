"""The groups of people, such as wards or departments, for reports."""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0055_groups"
down_revision: str | None = "0054_partner_answers"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    """Add the column; the previous release writes people without groups."""
    op.add_column(
        "person", sa.Column("group_ids", sa.Text(), nullable=False, server_default=sa.text("'[]'"))
    )


def downgrade() -> None:
    """Drop the column."""
    op.drop_column("person", "group_ids")
