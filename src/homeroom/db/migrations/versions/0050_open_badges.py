"""Credentials that this installation signs: keys, status lists, documents."""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0050_open_badges"
down_revision: str | None = "0049_lesson_open_places"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    """Create the tables of Open Badges."""
    op.create_table(
        "credential_key",
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("public_key", sa.Text(), nullable=False),
        sa.Column("private_key", sa.Text(), nullable=True),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_credential_key")),
        sa.UniqueConstraint("id", name=op.f("uq_credential_key_id")),
    )
    op.create_table(
        "credential_status",
        sa.Column("number", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("credential_id", sa.Text(), nullable=False),
        sa.Column("issued_at", sa.BigInteger(), nullable=False),
        sa.Column("revoked_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_credential_status")),
        sa.UniqueConstraint("credential_id", name=op.f("uq_credential_status_credential_id")),
    )
    op.create_index(op.f("ix_credential_status_revoked_at"), "credential_status", ["revoked_at"])
    op.create_table(
        "open_badge",
        sa.Column("credential_id", sa.Text(), nullable=False),
        sa.Column("user_id", sa.Text(), nullable=False),
        sa.Column("holder_name", sa.Text(), nullable=True),
        sa.Column("document", sa.Text(), nullable=False),
        sa.Column("jws", sa.Text(), nullable=False),
        sa.Column("key_id", sa.Text(), nullable=False),
        sa.Column("signed_at", sa.BigInteger(), nullable=False),
        sa.Column("shows_name", sa.Integer(), nullable=False),
        sa.Column("is_listed", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("credential_id", name=op.f("pk_open_badge")),
    )
    op.create_index(op.f("ix_open_badge_user_id"), "open_badge", ["user_id"])


def downgrade() -> None:
    """Drop the tables of Open Badges."""
    for table in ("open_badge", "credential_status", "credential_key"):
        op.drop_table(table)
