"""Let one number of the ledger's sequence on PostgreSQL stand for a thousand places.

A commit draws one for all its events. A process of the release before, which draws one for each,
goes on to do so beside it, and leaves the other places empty.
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
    """Draw the next number a thousand places after the last."""
    _step(1_000)


def downgrade() -> None:
    """Draw one after the other again, after the last place that is taken."""
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
