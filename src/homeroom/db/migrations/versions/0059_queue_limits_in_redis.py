"""Limits of a queue that were set in Redis, as by Bull Board."""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0059_queue_limits_in_redis"
down_revision: str | None = "0057_credential_issues"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    """Add the columns: null is no limit in Redis."""
    op.add_column("queue", sa.Column("redis_concurrency", sa.BigInteger()))
    op.add_column("queue", sa.Column("redis_rate_max", sa.BigInteger()))
    op.add_column("queue", sa.Column("redis_rate_window", sa.BigInteger()))


def downgrade() -> None:
    """Drop the columns: the limits themselves are in Redis."""
    op.drop_column("queue", "redis_rate_window")
    op.drop_column("queue", "redis_rate_max")
    op.drop_column("queue", "redis_concurrency")
