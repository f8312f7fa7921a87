"""All SQL of dispatches and destinations. Instants are microseconds UTC."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from sqlalchemy import BigInteger, Column, Index, Integer, Table, Text, UniqueConstraint, select

from homeroom.db.schema import metadata
from homeroom.db.tx import Row, Tx

Status = Literal["waiting", "delivered", "failed", "skipped"]

DISPATCH = Table(
    "dispatch",
    metadata,
    Column("id", Text, primary_key=True),
    Column("destination", Text, nullable=False),
    Column("type", Text, nullable=False),
    Column("completion_id", Text, nullable=False),
    Column("user_id", Text, nullable=False),
    Column("payload", Text, nullable=False),  # JSON, stored once: a retry sends the same bytes
    Column("status", Text, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("replays", Integer, nullable=False),
    Column("last_status", Integer),
    Column("last_error", Text),
    Column("created_at", BigInteger, nullable=False),
    Column("delivered_at", BigInteger),
    UniqueConstraint("destination", "completion_id", "type"),
    Index(None, "created_at", "id"),
    Index(None, "destination", "created_at", "id"),
)
DESTINATION = Table(
    "destination",
    metadata,
    Column("name", Text, primary_key=True),
    Column("disabled_at", BigInteger),
    Column("reason", Text),
)


@dataclass(frozen=True, slots=True)
class Dispatch:
    """One message to one partner system. Its id is the ``webhook-id``, stable over retries."""

    id: str
    destination: str
    type: str
    completion_id: str
    user_id: str
    payload: str
    status: Status
    attempts: int
    replays: int
    last_status: int | None
    last_error: str | None
    created_at: int
    delivered_at: int | None


def _dispatch(row: Row) -> Dispatch:
    return Dispatch(*row)


async def add(tx: Tx, values: Sequence[object]) -> None:
    """Insert (id, destination, type, completion, user, payload) unless the message is there."""
    await tx.execute(
        "INSERT INTO dispatch (id, destination, type, completion_id, user_id, payload, status,"
        " attempts, replays, created_at) VALUES (?, ?, ?, ?, ?, ?, 'waiting', 0, 0, ?)"
        " ON CONFLICT (destination, completion_id, type) DO NOTHING",
        (*values, tx.now),
    )


async def get(tx: Tx, id: str) -> Dispatch | None:
    """Return a dispatch."""
    row = await tx.fetch_one(select(DISPATCH).where(DISPATCH.c.id == id))
    return None if row is None else _dispatch(row)


async def of_completion(tx: Tx, destination: str, completion_id: str, type: str) -> Dispatch | None:
    """Return what a destination is told of a completion."""
    row = await tx.fetch_one(
        select(DISPATCH).where(
            DISPATCH.c.destination == destination,
            DISPATCH.c.completion_id == completion_id,
            DISPATCH.c.type == type,
        )
    )
    return None if row is None else _dispatch(row)


async def set_tried(
    tx: Tx, id: str, status: Status, answered: int | None, error: str | None
) -> None:
    """Note how a delivery went. One that has arrived before stays delivered."""
    await tx.execute(
        "UPDATE dispatch SET attempts = attempts + 1, status = ?, last_status = ?, last_error = ?,"
        " delivered_at = CASE WHEN ? = 'delivered' THEN COALESCE(delivered_at, ?)"
        " ELSE delivered_at END WHERE id = ?",
        (status, answered, error, status, tx.now, id),
    )


async def set_status(tx: Tx, id: str, status: Status, error: str | None) -> None:
    """Set where a dispatch is, without a delivery having been tried."""
    await tx.execute(
        "UPDATE dispatch SET status = ?, last_error = COALESCE(?, last_error) WHERE id = ?",
        (status, error, id),
    )


async def set_replayed(tx: Tx, id: str) -> None:
    """Count a replay; the dispatch waits to be sent again."""
    await tx.execute(
        "UPDATE dispatch SET status = 'waiting', replays = replays + 1 WHERE id = ?", (id,)
    )


async def since(tx: Tx, destination: str, instant: int, count: int) -> list[Dispatch]:
    """Return what was made for a destination since an instant and is not on its way, by age."""
    at = DISPATCH.c.created_at
    rows = await tx.fetch(
        select(DISPATCH)
        .where(DISPATCH.c.destination == destination, at >= instant)
        .where(DISPATCH.c.status != "waiting")
        .order_by(at, DISPATCH.c.id)
        .limit(count)
    )
    return [_dispatch(row) for row in rows]


async def newest(
    tx: Tx,
    destination: str | None,
    status: str | None,
    before: tuple[int, str] | None,
    count: int,
) -> list[Dispatch]:
    """Return dispatches by (created_at, id), newest first, before such a pair."""
    at, id = DISPATCH.c.created_at, DISPATCH.c.id
    statement = select(DISPATCH)
    if destination is not None:
        statement = statement.where(DISPATCH.c.destination == destination)
    if status is not None:
        statement = statement.where(DISPATCH.c.status == status)
    if before is not None:
        statement = statement.where(at <= before[0]).where(
            (at < before[0]) | ((at == before[0]) & (id < before[1]))
        )
    rows = await tx.fetch(statement.order_by(at.desc(), id.desc()).limit(count))
    return [_dispatch(row) for row in rows]


async def disabled(tx: Tx, destination: str) -> str | None:
    """Return why a destination is switched off, or None."""
    row = await tx.fetch_one(
        "SELECT reason FROM destination WHERE name = ? AND disabled_at IS NOT NULL", (destination,)
    )
    return None if row is None else str(row[0])


async def switch_off(tx: Tx, destination: str, reason: str) -> None:
    """Send nothing to a destination any more."""
    await tx.execute(
        "INSERT INTO destination (name, disabled_at, reason) VALUES (?, ?, ?)"
        " ON CONFLICT (name) DO UPDATE SET disabled_at = excluded.disabled_at,"
        " reason = excluded.reason",
        (destination, tx.now, reason),
    )


async def switch_on(tx: Tx, destination: str) -> bool:
    """Send to a destination again; say whether it was switched off."""
    changed = await tx.execute(
        "UPDATE destination SET disabled_at = NULL, reason = NULL"
        " WHERE name = ? AND disabled_at IS NOT NULL",
        (destination,),
    )
    return changed == 1
