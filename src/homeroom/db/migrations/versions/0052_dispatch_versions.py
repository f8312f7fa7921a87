"""The versions of a message: a replay that knows more is a message of its own."""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0052_dispatch_versions"
down_revision: str | None = "0051_sending_pace"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

_BEFORE = "uq_dispatch_destination_completion_id_type"
_AFTER = "uq_dispatch_destination_completion_id_type_version"
_COLUMNS = ["destination", "completion_id", "type"]


def upgrade() -> None:
    """Add the column, 1 in all rows before, and make it part of the unique key."""
    with op.batch_alter_table("dispatch") as table:
        table.add_column(sa.Column("version", sa.Integer(), nullable=False, server_default="1"))
        table.drop_constraint(_BEFORE, type_="unique")
        table.create_unique_constraint(_AFTER, [*_COLUMNS, "version"])


def downgrade() -> None:
    """Keep the first version of each message, and drop the column."""
    op.execute("DELETE FROM dispatch WHERE version > 1")
    with op.batch_alter_table("dispatch") as table:
        table.drop_constraint(_AFTER, type_="unique")
        table.drop_column("version")
        table.create_unique_constraint(_BEFORE, _COLUMNS)
