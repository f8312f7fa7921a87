"""The instant at which the next mail may go out, for a limit of mails a minute."""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0051_sending_pace"
down_revision: str | None = "0050_open_badges"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    """Create the table; its row comes with the first mail under a limit."""
    op.create_table(
        "sending_pace",
        sa.Column("channel", sa.Text(), nullable=False),
        sa.Column("next_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("channel", name=op.f("pk_sending_pace")),
    )


def downgrade() -> None:
    """Drop the table: the previous release has no limit."""
    op.drop_table("sending_pace")
