"""The answers of partners, their last successes, an index of the undelivered."""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0054_partner_answers"
down_revision: str | None = "0052_dispatch_versions"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    """Add the columns, empty: the previous release writes none of them."""
    op.add_column("dispatch", sa.Column("last_answer", sa.Text(), nullable=True))
    op.add_column("dispatch", sa.Column("last_attempt_at", sa.BigInteger(), nullable=True))
    op.create_index(
        "ix_dispatch_destination_status_created_at_id",
        "dispatch",
        ["destination", "status", "created_at", "id"],
    )
    op.add_column("partner", sa.Column("last_success_at", sa.BigInteger(), nullable=True))
    op.add_column("partner", sa.Column("key_digest", sa.Text(), nullable=True))
    op.add_column("partner", sa.Column("key_since", sa.BigInteger(), nullable=True))


def downgrade() -> None:
    """Drop the columns and the index."""
    op.drop_column("partner", "key_since")
    op.drop_column("partner", "key_digest")
    op.drop_column("partner", "last_success_at")
    op.drop_index("ix_dispatch_destination_status_created_at_id", table_name="dispatch")
    op.drop_column("dispatch", "last_attempt_at")
    op.drop_column("dispatch", "last_answer")
