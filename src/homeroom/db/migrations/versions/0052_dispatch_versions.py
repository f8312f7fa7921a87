"""The versions of a message: a replay that knows more is a message of its own."""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0052_dispatch_versions"
down_revision: str | None = "0051_sending_pace"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    """Add the column, 1 in all rows before.

    The unique key stays that of the release before, whose statements name its columns: an earlier
    version has its number in the type (``dispatch/store.py``).
    """
    with op.batch_alter_table("dispatch") as table:
        table.add_column(sa.Column("version", sa.Integer(), nullable=False, server_default="1"))


def downgrade() -> None:
    """Keep the latest version of each message, and drop the column."""
    op.execute("DELETE FROM dispatch WHERE type LIKE '%;version=%'")
    with op.batch_alter_table("dispatch") as table:
        table.drop_column("version")
