"""One-time tickets that open an event stream."""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0047_stream_tickets"
down_revision: str | None = "0046_mail_judgement"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    """Create the table of tickets."""
    op.create_table(
        "stream_ticket",
        sa.Column("hash", sa.String(length=64), nullable=False),
        sa.Column("subject", sa.String(length=128), nullable=False),
        sa.Column("roles", sa.Text(), nullable=False),
        sa.Column("via", sa.String(length=8), nullable=False),
        sa.Column("key_id", sa.String(length=36), nullable=True),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("hash", name=op.f("pk_stream_ticket")),
    )
    op.create_index("ix_stream_ticket_subject", "stream_ticket", ["subject"])
    op.create_index("ix_stream_ticket_expires_at", "stream_ticket", ["expires_at"])


def downgrade() -> None:
    """Drop the table."""
    op.drop_table("stream_ticket")
