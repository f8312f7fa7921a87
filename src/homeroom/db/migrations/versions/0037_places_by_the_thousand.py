"""Reserve a thousand sequence numbers of the ledger on PostgreSQL with one call.

A commit draws one number for all its events. A process of the previous release, which draws one for
each event, continues to do so at the same time, and leaves the rest of each thousand unused.
"""

from __future__ import annotations

from collections.abc import Sequence

from alembic import op

revision: str = "0037_places_by_the_thousand"
down_revision: str | None = "0036_erasure"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

_SEQUENCE = "pg_get_serial_sequence('progress_event', 'seq')"


def upgrade() -> None:
    """Make the sequence advance by a thousand."""
    _step(1_000)


def downgrade() -> None:
    """Make the sequence advance by one again, after the last number in use."""
    _step(1)
    if op.get_bind().dialect.name == "postgresql":
        op.execute(
            f"SELECT setval({_SEQUENCE}, (SELECT max(seq) FROM progress_event))"
            " WHERE EXISTS (SELECT FROM progress_event)"
        )


def _step(places: int) -> None:
    if op.get_bind().dialect.name == "postgresql":
        name = op.get_bind().exec_driver_sql(f"SELECT {_SEQUENCE}").scalar_one()
        op.execute(f"ALTER SEQUENCE {name} INCREMENT BY {places}")
