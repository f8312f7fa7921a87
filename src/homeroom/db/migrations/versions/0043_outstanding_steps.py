"""An index of steps by status, for the lists and counts of outstanding ones."""

from __future__ import annotations

from collections.abc import Sequence

from alembic import op

revision: str = "0043_outstanding_steps"
down_revision: str | None = "0042_installation_seal"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

_NAME = "ix_completion_step_status_name_completion_id"


def upgrade() -> None:
    """Create the index; the previous release does not notice it."""
    op.create_index(_NAME, "completion_step", ["status", "name", "completion_id"])


def downgrade() -> None:
    """Drop the index."""
    op.drop_index(_NAME, "completion_step")
