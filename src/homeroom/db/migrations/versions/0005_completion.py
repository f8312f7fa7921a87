"""Completions and their steps."""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0005_completion"
down_revision: str | None = "0004_catalogue"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    """Create the tables of this package."""
    op.create_table(
        "completion",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("user_id", sa.Text(), nullable=False),
        sa.Column("course_id", sa.Text(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("course_version", sa.Integer(), nullable=False),
        sa.Column("course_title", sa.Text(), nullable=False),
        sa.Column("completed_at", sa.BigInteger(), nullable=False),
        sa.Column("recorded_at", sa.BigInteger(), nullable=False),
        sa.Column("score", sa.Integer(), nullable=True),
        sa.Column("time_spent", sa.BigInteger(), nullable=False),
        sa.Column("chapters", sa.Text(), nullable=False),
        sa.Column("superseded_by", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_completion"),
        sa.UniqueConstraint(
            "user_id", "course_id", "attempt", name="uq_completion_user_id_course_id_attempt"
        ),
    )
    op.create_index(
        "ix_completion_course_id_recorded_at_id", "completion", ["course_id", "recorded_at", "id"]
    )
    op.create_index("ix_completion_recorded_at_id", "completion", ["recorded_at", "id"])
    op.create_index("ix_completion_completed_at_id", "completion", ["completed_at", "id"])
    op.create_table(
        "completion_step",
        sa.Column("completion_id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("job_id", sa.Text(), nullable=True),
        sa.Column("runs", sa.Integer(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("last_error", sa.Text(), nullable=True),
        sa.Column("skip_reason", sa.Text(), nullable=True),
        sa.Column("external_id", sa.Text(), nullable=True),
        sa.Column("finished_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("completion_id", "name", name="pk_completion_step"),
    )
    op.create_table(
        "completion_note",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("completion_id", sa.Text(), nullable=False),
        sa.Column("noted_at", sa.BigInteger(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_completion_note"),
    )
    op.create_index(
        "ix_completion_note_completion_id_id", "completion_note", ["completion_id", "id"]
    )


def downgrade() -> None:
    """Drop the tables of this package."""
    for table in ("completion_note", "completion_step", "completion"):
        op.drop_table(table)
