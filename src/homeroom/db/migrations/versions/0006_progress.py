"""The ledger and its roll-ups."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from alembic import op

from homeroom.db.tables import SEQUENCE_TYPE

revision: str = "0006_progress"
down_revision: str | None = "0005_completion"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    """Create the tables of this package."""
    op.create_table(
        "progress_event",
        sa.Column("seq", SEQUENCE_TYPE, primary_key=True, autoincrement=True),
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("user_id", sa.Text, nullable=False),
        sa.Column("course_id", sa.Text, nullable=False),
        sa.Column("chapter_id", sa.Text),
        sa.Column("type", sa.Text, nullable=False),
        sa.Column("progress", sa.Integer),
        sa.Column("time_spent", sa.Integer, nullable=False),
        sa.Column("quiz", sa.Text),
        sa.Column("occurred_at", sa.BigInteger, nullable=False),
        sa.Column("received_at", sa.BigInteger, nullable=False),
        sa.Column("course_version", sa.Integer, nullable=False),
        sa.Column("attempt", sa.Integer, nullable=False),
        sa.Column("body_hash", sa.LargeBinary, nullable=False),
        sa.Column("metadata", sa.Text),
        sa.Column("flags", sa.Integer, nullable=False),
        sa.UniqueConstraint("id", name="uq_progress_event_id"),
    )
    op.create_table(
        "ledger_part",
        sa.Column("user_id", sa.Text, primary_key=True),
        sa.Column("course_id", sa.Text, primary_key=True),
        sa.Column("first_seq", SEQUENCE_TYPE, primary_key=True),
        sa.Column("last_seq", SEQUENCE_TYPE, nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "chapter_progress",
        *_key("user_id", "course_id", "attempt", "chapter_id"),
        sa.Column("progress", sa.Integer, nullable=False),
        sa.Column("time_spent", sa.BigInteger, nullable=False),
        sa.Column("completed_at", sa.BigInteger),
        sa.Column("passed_at", sa.BigInteger),
        sa.Column("last_at", sa.BigInteger, nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "course_progress",
        *_key("user_id", "course_id", "attempt"),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("weighted_sum", sa.BigInteger, nullable=False),
        sa.Column("required_satisfied", sa.Integer, nullable=False),
        sa.Column("satisfied", sa.Integer, nullable=False),
        sa.Column("time_spent", sa.BigInteger, nullable=False),
        sa.Column("unattributed", sa.BigInteger, nullable=False),
        sa.Column("last_at", sa.BigInteger, nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_index(
        "ix_course_progress_course_id_user_id", "course_progress", ["course_id", "user_id"]
    )
    op.create_table(
        "quiz_attempt",
        *_key("user_id", "course_id", "attempt", "chapter_id", "attempt_id"),
        sa.Column("scaled", sa.Integer, nullable=False),
        sa.Column("threshold", sa.Integer),
        sa.Column("at", sa.BigInteger, nullable=False),
        sa.Column("event_id", sa.Text, nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "progress_quarantine",
        sa.Column("seq", SEQUENCE_TYPE, primary_key=True, autoincrement=True),
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("body_hash", sa.LargeBinary, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("user_id", sa.Text, nullable=False),
        sa.Column("course_id", sa.Text, nullable=False),
        sa.Column("chapter_id", sa.Text),
        sa.Column("event", sa.Text, nullable=False),
        sa.Column("received_at", sa.BigInteger, nullable=False),
        sa.UniqueConstraint("id", "body_hash", name="uq_progress_quarantine_id_body_hash"),
    )
    op.create_index("ix_progress_quarantine_course_id", "progress_quarantine", ["course_id"])


def _key(*names: str) -> list[sa.Column[Any]]:
    return [
        sa.Column(name, sa.Integer if name == "attempt" else sa.Text, primary_key=True)
        for name in names
    ]


def downgrade() -> None:
    """Drop the tables of this package."""
    for table in (
        "progress_quarantine",
        "quiz_attempt",
        "course_progress",
        "chapter_progress",
        "ledger_part",
        "progress_event",
    ):
        op.drop_table(table)
