"""Store course rows uncompressed on PostgreSQL, with free space for updates.

Its chapters, some 45 bytes each, are written at every commit that changes them. Beyond 2 KB the
server would compress them each time, and a new version of a row that does not fit on the page of
the old one needs new index entries.
"""

from __future__ import annotations

from collections.abc import Sequence

from alembic import op

revision: str = "0033_course_rows_in_place"
down_revision: str | None = "0032_bounds"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    """Change the storage of rows that are written from now on."""
    if op.get_bind().dialect.name == "postgresql":
        op.execute("ALTER TABLE course_progress SET (toast_tuple_target = 8160, fillfactor = 70)")


def downgrade() -> None:
    """Restore the server's defaults."""
    if op.get_bind().dialect.name == "postgresql":
        op.execute("ALTER TABLE course_progress RESET (toast_tuple_target, fillfactor)")
