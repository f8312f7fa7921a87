"""Keep a course row in one piece on PostgreSQL, with room to be written anew beside it.

Its chapters, some 45 bytes each, are written at every commit that touches them. Beyond 2 KB the
server would compress them each time; and a new version of a row that finds no room on its page has
to be entered in the index again.
"""

from __future__ import annotations

from collections.abc import Sequence

from alembic import op

revision: str = "0033_course_rows_in_place"
down_revision: str | None = "0032_bounds"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    """Change how rows are written from now on; those that are there stay as they are."""
    if op.get_bind().dialect.name == "postgresql":
        op.execute("ALTER TABLE course_progress SET (toast_tuple_target = 8160, fillfactor = 70)")


def downgrade() -> None:
    """Go back to what the server does by itself."""
    if op.get_bind().dialect.name == "postgresql":
        op.execute("ALTER TABLE course_progress RESET (toast_tuple_target, fillfactor)")
