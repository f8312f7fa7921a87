"""Achievements: rules, and what they have awarded."""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0068_achievements"
down_revision: str | None = "0067_lesson_parts"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    """Create the tables; the previous release does not know them, and awards nothing."""
    op.create_table(
        "achievement_rule",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("condition", sa.Text(), nullable=False),
        sa.Column("credential", sa.Integer(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.Column("archived_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_achievement_rule")),
    )
    op.create_table(
        "achievement_award",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("rule_id", sa.Text(), nullable=False),
        sa.Column("user_id", sa.Text(), nullable=False),
        sa.Column("completion_id", sa.Text(), nullable=False),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("criteria", sa.Text(), nullable=False),
        sa.Column("credential", sa.Integer(), nullable=False),
        sa.Column("rule_version", sa.Integer(), nullable=False),
        sa.Column("achieved_at", sa.BigInteger(), nullable=False),
        sa.Column("awarded_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_achievement_award")),
        sa.UniqueConstraint(
            "user_id", "rule_id", name=op.f("uq_achievement_award_user_id_rule_id")
        ),
    )
    op.create_index(
        op.f("ix_achievement_award_rule_id_user_id"), "achievement_award", ["rule_id", "user_id"]
    )


def downgrade() -> None:
    """Drop the tables."""
    op.drop_index(op.f("ix_achievement_award_rule_id_user_id"), table_name="achievement_award")
    op.drop_table("achievement_award")
    op.drop_table("achievement_rule")
