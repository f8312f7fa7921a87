"""Numbered issues of a credential: a revoked one may be issued anew."""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0057_credential_issues"
down_revision: str | None = "0056_message_recipients"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    """Add the number of an issue.

    The unique key stays that of the release before, whose statements name its columns: an earlier
    issue has its number in the id of the completion (``credentials/store.py``).
    """
    with op.batch_alter_table("credential") as table:
        table.add_column(sa.Column("issue", sa.Integer(), nullable=False, server_default="1"))


def downgrade() -> None:
    """Keep the latest issue alone: the previous release has one for each completion."""
    op.execute("DELETE FROM credential WHERE completion_id LIKE '%#%'")
    with op.batch_alter_table("credential") as table:
        table.drop_column("issue")
