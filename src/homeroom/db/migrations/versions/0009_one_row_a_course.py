"""One row for a learner's course with its chapters, and a chain of its events."""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

from homeroom.db.tables import SEQUENCE_TYPE

revision: str = "0009_one_row_a_course"
down_revision: str | None = "0008_dispatch"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

_KEPT = (
    "user_id, course_id, attempt, version, weighted_sum, required_satisfied, satisfied, time_spent,"
    " unattributed, last_at"
)
_CHAPTERS = {
    "sqlite": "json_group_object(chapter_id,"
    " json_array(progress, time_spent, completed_at, passed_at, last_at))",
    "postgresql": "CAST(json_object_agg(chapter_id,"
    " json_build_array(progress, time_spent, completed_at, passed_at, last_at)) AS text)",
}


def upgrade() -> None:
    """Link the ledger's rows, and collect the chapters of each attempt."""
    op.add_column("progress_event", sa.Column("previous", SEQUENCE_TYPE))
    op.execute(
        "UPDATE progress_event SET previous = linked.previous FROM (SELECT seq, lag(seq) OVER"
        " (PARTITION BY user_id, course_id ORDER BY seq) AS previous FROM progress_event) AS linked"
        " WHERE linked.seq = progress_event.seq"
    )
    op.drop_index("ix_course_progress_course_id_user_id", "course_progress")
    op.rename_table("course_progress", "course_progress_before")
    if op.get_bind().dialect.name == "postgresql":  # where the name of a key is taken once
        op.execute(
            "ALTER TABLE course_progress_before"
            " RENAME CONSTRAINT pk_course_progress TO pk_course_progress_before"
        )
    op.create_table(
        "course_progress",
        sa.Column("user_id", sa.Text, primary_key=True),
        sa.Column("course_id", sa.Text, primary_key=True),
        sa.Column("attempt", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("weighted_sum", sa.BigInteger, nullable=False),
        sa.Column("required_satisfied", sa.Integer, nullable=False),
        sa.Column("satisfied", sa.Integer, nullable=False),
        sa.Column("time_spent", sa.BigInteger, nullable=False),
        sa.Column("unattributed", sa.BigInteger, nullable=False),
        sa.Column("last_at", sa.BigInteger, nullable=False),
        sa.Column("last_seq", SEQUENCE_TYPE, nullable=False),
        sa.Column("chapters", sa.Text, nullable=False),
    )
    kept = ", ".join(f"c.{name}" for name in _KEPT.split(", "))
    op.execute(
        f"INSERT INTO course_progress ({_KEPT}, last_seq, chapters)"  # constants only
        f" SELECT {kept}, coalesce(l.seq, 0), coalesce(p.chapters, '{{}}')"
        " FROM course_progress_before AS c LEFT JOIN (SELECT user_id, course_id, max(seq) AS seq"
        " FROM progress_event GROUP BY user_id, course_id) AS l"
        " ON l.user_id = c.user_id AND l.course_id = c.course_id"
        " LEFT JOIN (SELECT user_id, course_id, attempt,"
        f" {_CHAPTERS[op.get_bind().dialect.name]} AS chapters FROM chapter_progress"
        " GROUP BY user_id, course_id, attempt) AS p"
        " ON p.user_id = c.user_id AND p.course_id = c.course_id AND p.attempt = c.attempt"
    )
    for table in ("course_progress_before", "chapter_progress", "ledger_part"):
        op.drop_table(table)


def downgrade() -> None:
    """Refuse: the rows of the chapters cannot be restored."""
    raise RuntimeError("Restore the backup that was made before the upgrade.")
