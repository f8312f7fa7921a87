"""Ends of soft suppressions, servers' ids, refusals, unmatched reports."""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0046_mail_judgement"
down_revision: str | None = "0045_partner_breakers"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None
_SOFT_SUPPRESSION_US = 30 * 86_400 * 1_000_000


def upgrade() -> None:
    """Add columns and tables; suppressions by soft bounces end after 30 days."""
    op.add_column("delivery", sa.Column("server_id", sa.Text(), nullable=True))
    op.create_index(op.f("ix_delivery_server_id"), "delivery", ["server_id"], unique=False)
    op.add_column("suppression", sa.Column("expires_at", sa.BigInteger(), nullable=True))
    op.execute(
        f"UPDATE suppression SET expires_at = created_at + {_SOFT_SUPPRESSION_US}"
        " WHERE reason = 'soft'"
    )
    op.create_table(
        "unmatched_notice",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("source_id", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("server_id", sa.Text(), nullable=True),
        sa.Column("recipient", sa.Text(), nullable=True),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_unmatched_notice")),
        sa.UniqueConstraint("source_id", name=op.f("uq_unmatched_notice_source_id")),
    )
    op.create_index(
        op.f("ix_unmatched_notice_server_id"), "unmatched_notice", ["server_id"], unique=False
    )
    op.create_index(op.f("ix_unmatched_notice_at"), "unmatched_notice", ["at"], unique=False)
    op.create_table(
        "mail_refusal",
        sa.Column("domain_hash", sa.Text(), nullable=False),
        sa.Column("refusal", sa.Text(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("domain_hash", name=op.f("pk_mail_refusal")),
    )
    op.create_table(
        "email_hook_token",
        sa.Column("token_hash", sa.Text(), nullable=False),
        sa.Column("body_hash", sa.Text(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("token_hash", name=op.f("pk_email_hook_token")),
    )
    op.create_index(op.f("ix_email_hook_token_at"), "email_hook_token", ["at"], unique=False)


def downgrade() -> None:
    """Drop tables and columns; soft suppressions have no end again."""
    op.drop_table("email_hook_token")
    op.drop_table("mail_refusal")
    op.drop_table("unmatched_notice")
    op.drop_column("suppression", "expires_at")
    op.drop_index(op.f("ix_delivery_server_id"), table_name="delivery")
    op.drop_column("delivery", "server_id")
