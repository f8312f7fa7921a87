"""The identity provider's session and subject of a session, for its sign-outs."""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0077_provider_sessions"
down_revision: str | None = "0075_job_search"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    """Add the columns; null: not opened by a provider, or by the release before."""
    op.add_column("session", sa.Column("provider_session", sa.String(64), nullable=True))
    op.add_column("session", sa.Column("provider_subject", sa.String(64), nullable=True))


def downgrade() -> None:
    """Drop the columns."""
    op.drop_column("session", "provider_subject")
    op.drop_column("session", "provider_session")
