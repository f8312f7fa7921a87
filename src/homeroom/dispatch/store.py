"""All SQL of dispatches and destinations. Instants are microseconds UTC."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from sqlalchemy import (
    BigInteger,
    Column,
    Index,
    Integer,
    Table,
    Text,
    UniqueConstraint,
    func,
    select,
)

from homeroom.db.personal_data import rows_owned_by
from homeroom.db.tables import metadata
from homeroom.db.tx import Tx

DispatchStatus = Literal["waiting", "delivered", "failed", "skipped"]

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
    Column("version", Integer, nullable=False, server_default="1"),
    Column("last_answer", Text),  # the beginning of an accepting answer's body, redacted
    Column("last_attempt_at", BigInteger),
    UniqueConstraint("destination", "completion_id", "type"),
    Index(None, "created_at", "id"),
    Index(None, "destination", "created_at", "id"),
    Index(None, "destination", "status", "created_at", "id"),
)
_EARLIER = ";version="
"""Stands between the type and the number of an earlier version, so that the latest one alone has
the plain type: the unique key of releases without versions holds for both."""
_IS_LATEST_VERSION = ~DISPATCH.c.type.contains(_EARLIER)
DESTINATION = Table(
    "destination",
    metadata,
    Column("name", Text, primary_key=True),
    Column("disabled_at", BigInteger),
    Column("reason", Text),
)


@dataclass(frozen=True, slots=True)
class Dispatch:
    """A message to a partner system. Its id is the ``webhook-id`` of all attempts."""

    id: str
    destination: str
    type: str
    completion_id: str
    user_id: str
    payload: str
    created_at: int
    status: DispatchStatus = "waiting"
    attempts: int = 0
    replays: int = 0
    last_status: int | None = None
    last_error: str | None = None
    delivered_at: int | None = None
    version: int = 1
    """From 1; a later version of a message replaces the one before."""
    last_answer: str | None = None
    """The beginning of the body with which the partner accepted it, redacted."""
    last_attempt_at: int | None = None

    def __post_init__(self) -> None:
        """Take the number of an earlier version from the type."""
        object.__setattr__(self, "type", self.type.partition(_EARLIER)[0])


async def add(tx: Tx, new: Dispatch) -> None:
    """Insert a dispatch unless its completion has this version of the message.

    The version before gives the plain type to it.
    """
    await tx.execute(
        f"UPDATE dispatch SET type = type || '{_EARLIER}' || version"
        " WHERE destination = ? AND completion_id = ? AND type = ? AND version < ?",
        (new.destination, new.completion_id, new.type, new.version),
    )
    await tx.insert(DISPATCH, [new], on_conflict="ignore")


async def get(tx: Tx, id: str) -> Dispatch | None:
    """Return a dispatch."""
    return await tx.fetch_one_into(Dispatch, select(DISPATCH).where(DISPATCH.c.id == id))


async def get_by_completion(
    tx: Tx, destination: str, completion_id: str, type: str
) -> Dispatch | None:
    """Return the latest version of a completion's message of a type to a destination."""
    statement = select(DISPATCH).where(
        DISPATCH.c.destination == destination,
        DISPATCH.c.completion_id == completion_id,
        DISPATCH.c.type == type,
    )
    return await tx.fetch_one_into(Dispatch, statement)


async def record_attempt(
    tx: Tx,
    id: str,
    status: DispatchStatus,
    response_status: int | None,
    error: str | None,
    answer: str | None = None,
) -> None:
    """Record the result of an attempt; ``delivered_at`` keeps the first delivery."""
    await tx.execute(
        "UPDATE dispatch SET attempts = attempts + 1, status = ?, last_status = ?, last_error = ?,"
        " last_answer = ?, last_attempt_at = ?,"
        " delivered_at = CASE WHEN ? = 'delivered' THEN COALESCE(delivered_at, ?)"
        " ELSE delivered_at END WHERE id = ?",
        (status, response_status, error, answer, tx.now, status, tx.now, id),
    )


async def set_status(tx: Tx, id: str, status: DispatchStatus, error: str | None) -> None:
    """Set the status of a dispatch without an attempt to deliver it."""
    await tx.execute(
        "UPDATE dispatch SET status = ?, last_error = COALESCE(?, last_error) WHERE id = ?",
        (status, error, id),
    )


async def set_replaced(tx: Tx, replaced: Dispatch, by: str) -> None:
    """End a dispatch that a later version replaces; a delivered one stays so."""
    status = "skipped" if replaced.delivered_at is None else "delivered"
    await tx.execute(
        "UPDATE dispatch SET status = ?, last_error = ? WHERE id = ? AND status = 'waiting'",
        (status, f"replaced by {by}", replaced.id),
    )


async def record_replay(tx: Tx, id: str) -> None:
    """Count a replay and set the dispatch to waiting."""
    await tx.execute(
        "UPDATE dispatch SET status = 'waiting', replays = replays + 1 WHERE id = ?", (id,)
    )


async def list_since(
    tx: Tx,
    destination: str,
    statuses: Sequence[DispatchStatus],
    after: tuple[int, str],
    count: int,
) -> list[Dispatch]:
    """Return a destination's dispatches by (created_at, id), above such a pair."""
    at, id = DISPATCH.c.created_at, DISPATCH.c.id
    statement = (
        select(DISPATCH)
        .where(DISPATCH.c.destination == destination, DISPATCH.c.status.in_(statuses))
        .where(_IS_LATEST_VERSION, at >= after[0])
        .where((at > after[0]) | ((at == after[0]) & (id > after[1])))
        .order_by(at, id)
        .limit(count)
    )
    return await tx.fetch_into(Dispatch, statement)


async def count_since(
    tx: Tx, destination: str, statuses: Sequence[DispatchStatus], instant: int
) -> int:
    """Count a destination's dispatches of some statuses since an instant."""
    statement = (
        select(func.count())
        .select_from(DISPATCH)
        .where(DISPATCH.c.destination == destination, DISPATCH.c.status.in_(statuses))
        .where(_IS_LATEST_VERSION, DISPATCH.c.created_at >= instant)
    )
    [(count,)] = await tx.fetch(statement)
    return int(count)


async def find_dispatched(tx: Tx, destination: str, completion_ids: Sequence[str]) -> set[str]:
    """Return those of some completions that have a dispatch to a destination."""
    rows = await tx.fetch(
        select(DISPATCH.c.completion_id).where(
            DISPATCH.c.destination == destination, DISPATCH.c.completion_id.in_(completion_ids)
        )
    )
    return {completion_id for (completion_id,) in rows}


async def list_newest(
    tx: Tx,
    destination: str | None,
    status: str | None,
    before: tuple[int, str] | None,
    count: int,
    *,
    completion_id: str | None = None,
    user_id: str | None = None,
    since: int | None = None,
) -> list[Dispatch]:
    """Return dispatches by (created_at, id), newest first, before such a pair.

    ``since`` is the earliest ``created_at``.
    """
    at, id = DISPATCH.c.created_at, DISPATCH.c.id
    statement = select(DISPATCH)
    if completion_id is not None:
        statement = statement.where(DISPATCH.c.completion_id == completion_id)
    if user_id is not None:
        statement = statement.where(DISPATCH.c.user_id == user_id)
    if since is not None:
        statement = statement.where(at >= since)
    if destination is not None:
        statement = statement.where(DISPATCH.c.destination == destination)
    if status is not None:
        statement = statement.where(DISPATCH.c.status == status)
    if before is not None:
        statement = statement.where(at <= before[0]).where(
            (at < before[0]) | ((at == before[0]) & (id < before[1]))
        )
    page = statement.order_by(at.desc(), id.desc()).limit(count)
    return await tx.fetch_into(Dispatch, page)


@dataclass(frozen=True, slots=True)
class DisabledDestination:
    """A destination that is switched off."""

    name: str
    disabled_at: int
    reason: str


async def list_disabled(tx: Tx) -> dict[str, DisabledDestination]:
    """Return the destinations that are switched off, by name."""
    rows = await tx.fetch_into(
        DisabledDestination, "SELECT * FROM destination WHERE disabled_at IS NOT NULL"
    )
    return {each.name: each for each in rows}


async def get_disabled_reason(tx: Tx, destination: str) -> str | None:
    """Return the reason for which a destination is switched off, or None."""
    rows = await tx.fetch(
        "SELECT reason FROM destination WHERE name = ? AND disabled_at IS NOT NULL", (destination,)
    )
    return next((str(reason) for (reason,) in rows), None)


async def disable_destination(tx: Tx, destination: str, reason: str) -> None:
    """Switch a destination off."""
    await tx.execute(
        "INSERT INTO destination (name, disabled_at, reason) VALUES (?, ?, ?)"
        " ON CONFLICT (name) DO UPDATE SET disabled_at = excluded.disabled_at,"
        " reason = excluded.reason",
        (destination, tx.now, reason),
    )


async def enable_destination(tx: Tx, destination: str) -> bool:
    """Switch a destination on; return whether it was off."""
    changed = await tx.execute(
        "UPDATE destination SET disabled_at = NULL, reason = NULL"
        " WHERE name = ? AND disabled_at IS NOT NULL",
        (destination,),
    )
    return changed == 1


PERSONAL = (rows_owned_by(DISPATCH.c.user_id),)
