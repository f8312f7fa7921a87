"""Refusals in a row are counted by recipient, too: a school may have one domain."""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0061_refused_recipients"
down_revision: str | None = "0059_queue_limits_in_redis"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    """Make the table anew: its rows are gone with the next mail in any case."""
    op.drop_table("mail_refusal")
    op.create_table(
        "mail_refusal",
        sa.Column("domain_hash", sa.Text(), nullable=False),
        sa.Column("recipient_bucket", sa.Integer(), nullable=False),
        sa.Column("refusal", sa.Text(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("domain_hash", "recipient_bucket", name=op.f("pk_mail_refusal")),
    )


def downgrade() -> None:
    """Make the table as it was: one row a domain."""
    op.drop_table("mail_refusal")
    op.create_table(
        "mail_refusal",
        sa.Column("domain_hash", sa.Text(), nullable=False),
        sa.Column("refusal", sa.Text(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("domain_hash", name=op.f("pk_mail_refusal")),
    )
