"""The wait for transactions that are recording completions, on PostgreSQL."""

from __future__ import annotations

from homeroom.completion import store
from homeroom.db.database import Database
from homeroom.db.snapshot import assign_transaction_number, wait_for_earlier_transactions
from homeroom.errors import Unavailable

MAX_WAIT_SECONDS = 3.0
"""Longest wait of a list with ``since`` for transactions that are recording."""


async def wait_for_recording(db: Database) -> int | None:
    """Wait for transactions that are recording; return the end of what is settled.

    See ``Completions.wait_for_recording``.
    """
    if db.dialect == "sqlite":
        return None
    async with db.write() as tx:
        latest = await store.latest_recorded(tx)
        # After that: what gets a higher number has seen the latest one, and is later.
        number = await assign_transaction_number(tx)
    if not await wait_for_earlier_transactions(db, number, MAX_WAIT_SECONDS):
        raise Unavailable(
            "A transaction takes long, so that completions recorded meanwhile cannot be listed"
            " in order yet.",
            hint="Send the request again, or follow GET /api/v1/changes, which needs no wait.",
            retry_after_seconds=1,
        )
    return latest
