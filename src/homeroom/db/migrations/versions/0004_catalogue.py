"""Courses, versions, enrolments."""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0004_catalogue"
down_revision: str | None = "0003_people"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    """Create the tables of this package."""
    op.create_table(
        "course",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("body_hash", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_course"),
    )
    op.create_table(
        "course_version",
        sa.Column("course_id", sa.Text(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("body_hash", sa.Text(), nullable=False),
        sa.Column("published_at", sa.BigInteger(), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("course_id", "version", name="pk_course_version"),
    )
    op.create_table(
        "course_prerequisite",
        sa.Column("requires_id", sa.Text(), nullable=False),
        sa.Column("course_id", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("requires_id", "course_id", name="pk_course_prerequisite"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "enrolment",
        sa.Column("user_id", sa.Text(), nullable=False),
        sa.Column("course_id", sa.Text(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("enrolled_at", sa.BigInteger(), nullable=False),
        sa.Column("opened_at", sa.BigInteger(), nullable=False),
        sa.Column("completed_at", sa.BigInteger(), nullable=True),
        sa.Column("approved", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("user_id", "course_id", "attempt", name="pk_enrolment"),
        sqlite_with_rowid=False,
    )
    op.create_index(
        "ix_enrolment_course_id_user_id_attempt", "enrolment", ["course_id", "user_id", "attempt"]
    )


def downgrade() -> None:
    """Drop the tables of this package."""
    for table in ("enrolment", "course_prerequisite", "course_version", "course"):
        op.drop_table(table)
