"""All SQL of notifications and their deliveries. Instants are microseconds UTC."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from sqlalchemy import select

from homeroom.db.tx import Row, Tx
from homeroom.notify.kind import Channel
from homeroom.notify.state import Status, before
from homeroom.notify.table import DELIVERY, NOTIFICATION

_NOTIFICATION = (
    "n.id, n.dedupe_key, n.type, n.user_id, n.params, n.about, n.metadata, n.group_name,"
    " n.created_at, n.expires_at, n.read_at, n.resolved_at, n.purged_at"
)
_DELIVERY = (
    "d.id, d.notification_id, d.channel, d.status, d.reason, d.address, d.attempts, d.bundle,"
    " d.not_before, d.job, d.asked_by, d.asked_why, d.created_at, d.updated_at, d.accepted_at"
)
_WIDTH = _NOTIFICATION.count(",") + 1


@dataclass(frozen=True, slots=True)
class Notification:
    """One message to one person, as its row says."""

    id: str
    dedupe_key: str
    type: str
    user_id: str
    params: Mapping[str, Any]
    about: Mapping[str, Any] | None
    metadata: Mapping[str, Any]
    group: str | None
    created_at: int
    expires_at: int | None
    read_at: int | None
    resolved_at: int | None
    purged_at: int | None


@dataclass(frozen=True, slots=True)
class Delivery:
    """One way of a message to its person, as its row says."""

    id: str
    notification_id: str
    channel: Channel
    status: Status
    reason: str | None
    address: str | None
    attempts: int
    bundle: str | None
    not_before: int | None
    job: str | None
    asked_by: str | None
    asked_why: str | None
    created_at: int
    updated_at: int
    accepted_at: int | None


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try of a delivery."""

    number: int
    started_at: int
    finished_at: int | None
    outcome: str | None
    code: int | None
    error: str | None
    actor: str | None
    why: str | None


def _json(text: str | None) -> Any:
    return None if text is None else msgspec.json.decode(text)


def to_notification(row: Row) -> Notification:
    """Return a row of the columns of a notification."""
    id, key, type, user_id, params, about, metadata, *rest = row[:_WIDTH]
    return Notification(id, key, type, user_id, _json(params), _json(about), _json(metadata), *rest)


def to_delivery(row: Row) -> Delivery:
    """Return a row of the columns of a delivery."""
    return Delivery(row[0], row[1], Channel(row[2]), Status(row[3]), *row[4:])


async def add_notifications(tx: Tx, rows: Sequence[Sequence[object]]) -> set[str]:
    """Insert (id, key, type, user, params, about, metadata, group, expires) where the key is new.

    Returns the ids that were inserted. Two rows with one key are one.
    """
    await tx.executemany(
        "INSERT INTO notification (id, dedupe_key, type, user_id, params, about, metadata,"
        " group_name, expires_at, created_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
        " ON CONFLICT (dedupe_key) DO NOTHING",
        [(*row, tx.now) for row in rows],
    )
    found = await tx.fetch_keyed(
        "SELECT n.id FROM {keys} AS k JOIN notification AS n ON n.dedupe_key = k.column1",
        [(row[1],) for row in rows],
    )
    ours = {row[0] for row in rows}
    return {row[0] for row in found} & {str(id) for id in ours}


async def add_deliveries(tx: Tx, rows: Sequence[Sequence[object]]) -> None:
    """Insert (id, notification, channel, status, reason, bundle, not before, job)."""
    await tx.executemany(
        "INSERT INTO delivery (id, notification_id, channel, status, reason, bundle, not_before,"
        " job, attempts, created_at, updated_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
        " ON CONFLICT (notification_id, channel) DO NOTHING",
        [(*row, 0, tx.now, tx.now) for row in rows],
    )


async def get(
    tx: Tx, delivery_id: str, *, hold: bool = False
) -> tuple[Delivery, Notification] | None:
    """Return a delivery with its notification; ``hold`` keeps others from changing it."""
    row = await tx.fetch_one(
        f"SELECT {_NOTIFICATION}, {_DELIVERY} FROM delivery AS d"
        f" JOIN notification AS n ON n.id = d.notification_id WHERE d.id = ?{_held(tx, hold)}",
        (delivery_id,),
    )
    return None if row is None else (to_delivery(row[_WIDTH:]), to_notification(row))


async def of_bundle(
    tx: Tx, bundle: str, *, hold: bool = False
) -> list[tuple[Delivery, Notification]]:
    """Return the deliveries that go out together, the oldest first; ``hold`` is as in ``get``."""
    rows = await tx.fetch(
        f"SELECT {_NOTIFICATION}, {_DELIVERY} FROM delivery AS d"
        " JOIN notification AS n ON n.id = d.notification_id WHERE d.bundle = ? ORDER BY d.id"
        f"{_held(tx, hold)}",
        (bundle,),
    )
    return [(to_delivery(row[_WIDTH:]), to_notification(row)) for row in rows]


def _held(tx: Tx, hold: bool) -> str:
    """Return what ends a SELECT whose deliveries (``d``) nobody else may change meanwhile."""
    return f"{tx.row_lock} OF d" if hold and tx.row_lock else ""


async def move(
    tx: Tx,
    delivery_id: str,
    status: Status,
    *,
    reason: str | None = None,
    only_from: Collection[Status] | None = None,
) -> bool:
    """Set where a delivery is if it may go there; say whether it did."""
    allowed = [each for each in before(status) if only_from is None or each in only_from]
    accepted = tx.now if status in (Status.ACCEPTED, Status.DELIVERED) else None
    changed = await tx.execute(
        "UPDATE delivery SET status = ?, reason = ?, updated_at = ?,"
        " accepted_at = COALESCE(accepted_at, ?) WHERE id = ?"
        f" AND status IN ({', '.join('?' * len(allowed))})",
        (status.value, reason, tx.now, accepted, delivery_id, *[each.value for each in allowed]),
    )
    return changed == 1


async def begin(tx: Tx, delivery: Delivery, address: str) -> int:
    """Set a pending delivery to sending before the first word is said; return the attempt."""
    number = delivery.attempts + 1
    await tx.execute(
        "UPDATE delivery SET status = 'sending', reason = NULL, address = ?, attempts = ?,"
        " updated_at = ?, asked_by = NULL, asked_why = NULL WHERE id = ? AND status = 'pending'",
        (address, number, tx.now, delivery.id),
    )
    await tx.execute(
        "INSERT INTO delivery_attempt (delivery_id, number, started_at, actor, why)"
        " VALUES (?, ?, ?, ?, ?)",
        (delivery.id, number, tx.now, delivery.asked_by, delivery.asked_why),
    )
    return number


async def end_attempt(
    tx: Tx, delivery_id: str, number: int, outcome: str, code: int | None, error: str | None
) -> None:
    """Note how an attempt ended."""
    await tx.execute(
        "UPDATE delivery_attempt SET finished_at = ?, outcome = ?, code = ?, error = ?"
        " WHERE delivery_id = ? AND number = ? AND finished_at IS NULL",
        (tx.now, outcome, code, error, delivery_id, number),
    )


async def ask_again(tx: Tx, delivery_id: str, job: str, actor: str, why: str) -> None:
    """Let a delivery that has ended wait for another attempt, noting who wants it and why."""
    await tx.execute(
        "UPDATE delivery SET status = 'pending', reason = NULL, job = ?, asked_by = ?,"
        " asked_why = ?, updated_at = ?, bundle = NULL, not_before = NULL WHERE id = ?",
        (job, actor, why, tx.now, delivery_id),
    )


async def attempts(tx: Tx, delivery_id: str) -> list[Attempt]:
    """Return the attempts of a delivery, the first one first."""
    rows = await tx.fetch(
        "SELECT number, started_at, finished_at, outcome, code, error, actor, why"
        " FROM delivery_attempt WHERE delivery_id = ? ORDER BY number",
        (delivery_id,),
    )
    return [Attempt(*row) for row in rows]


async def newest_deliveries(
    tx: Tx,
    *,
    status: str | None,
    channel: str | None,
    user_id: str | None,
    before_id: str | None,
    count: int,
) -> list[tuple[Delivery, Notification]]:
    """Return deliveries with their notifications, newest first, before an id."""
    statement = select(*NOTIFICATION.c, *DELIVERY.c).join(
        NOTIFICATION, NOTIFICATION.c.id == DELIVERY.c.notification_id
    )
    for column, value in (
        (DELIVERY.c.status, status),
        (DELIVERY.c.channel, channel),
        (NOTIFICATION.c.user_id, user_id),
    ):
        if value is not None:
            statement = statement.where(column == value)
    if before_id is not None:
        statement = statement.where(DELIVERY.c.id < before_id)
    rows = await tx.fetch(statement.order_by(DELIVERY.c.id.desc()).limit(count))
    return [(to_delivery(row[_WIDTH:]), to_notification(row)) for row in rows]


async def inbox(
    tx: Tx, user_id: str, *, unread: bool, before_id: str | None, count: int
) -> list[Notification]:
    """Return what is in somebody's inbox, newest first, before an id."""
    rows = await tx.fetch(
        f"SELECT {_NOTIFICATION} FROM notification AS n"
        " JOIN delivery AS d ON d.notification_id = n.id"
        " WHERE n.user_id = ? AND d.channel = 'in_app' AND d.status = 'delivered'"
        + (" AND n.read_at IS NULL AND n.resolved_at IS NULL" if unread else "")
        + ("" if before_id is None else " AND n.id < ?")
        + " ORDER BY n.id DESC LIMIT ?",
        (user_id, *([] if before_id is None else [before_id]), count),
    )
    return [to_notification(row) for row in rows]


async def count_unread(tx: Tx, user_id: str) -> int:
    """Return how many messages in somebody's inbox are neither read nor settled otherwise."""
    row = await tx.fetch_one(
        "SELECT COUNT(*) FROM notification AS n JOIN delivery AS d ON d.notification_id = n.id"
        " WHERE n.user_id = ? AND n.read_at IS NULL AND n.resolved_at IS NULL"
        " AND d.channel = 'in_app' AND d.status = 'delivered'",
        (user_id,),
    )
    return 0 if row is None else int(row[0])


async def get_notification(tx: Tx, id: str) -> Notification | None:
    """Return a notification."""
    row = await tx.fetch_one(f"SELECT {_NOTIFICATION} FROM notification AS n WHERE n.id = ?", (id,))
    return None if row is None else to_notification(row)


async def set_read(tx: Tx, id: str) -> None:
    """Mark a notification as read; the first time counts."""
    await tx.execute(
        "UPDATE notification SET read_at = ? WHERE id = ? AND read_at IS NULL", (tx.now, id)
    )


async def set_all_read(tx: Tx, user_id: str) -> int:
    """Mark all of somebody's notifications as read; return how many were not."""
    return await tx.execute(
        "UPDATE notification SET read_at = ? WHERE user_id = ? AND read_at IS NULL",
        (tx.now, user_id),
    )


async def resolve(tx: Tx, keys: Sequence[str]) -> list[str]:
    """Mark notifications as settled and cancel what is not sent yet; return their ids."""
    found = await tx.fetch_keyed(
        "SELECT n.id FROM {keys} AS k JOIN notification AS n ON n.dedupe_key = k.column1"
        " WHERE n.resolved_at IS NULL",
        [(key,) for key in keys],
    )
    ids = [row[0] for row in found]
    for id in ids:
        await tx.execute("UPDATE notification SET resolved_at = ? WHERE id = ?", (tx.now, id))
        await tx.execute(
            "UPDATE delivery SET status = 'cancelled', reason = 'resolved', updated_at = ?"
            " WHERE notification_id = ? AND status = 'pending'",
            (tx.now, id),
        )
    return ids


async def first_of_group(tx: Tx, user_id: str, group: str, since: int) -> int | None:
    """Return when the oldest message of a group since an instant was made."""
    row = await tx.fetch_one(
        "SELECT MIN(created_at) FROM notification WHERE user_id = ? AND group_name = ?"
        " AND created_at > ?",
        (user_id, group, since),
    )
    return None if row is None or row[0] is None else int(row[0])


async def purge(tx: Tx, texts_before: int, rows_before: int, limit: int) -> tuple[int, int]:
    """Drop texts older than one instant and whole rows older than another; return how many."""
    texts = await tx.execute(
        "UPDATE notification SET params = '{}', about = NULL, metadata = '{}', purged_at = ?"
        " WHERE id IN (SELECT id FROM notification WHERE created_at < ? AND purged_at IS NULL"
        " LIMIT ?)",
        (tx.now, texts_before, limit),
    )
    old = await tx.fetch(
        "SELECT id FROM notification WHERE created_at < ? LIMIT ?", (rows_before, limit)
    )
    for (id,) in old:
        await tx.execute(
            "DELETE FROM delivery_attempt WHERE delivery_id IN"
            " (SELECT id FROM delivery WHERE notification_id = ?)",
            (id,),
        )
        await tx.execute("DELETE FROM delivery WHERE notification_id = ?", (id,))
        await tx.execute("DELETE FROM notification WHERE id = ?", (id,))
    return texts, len(old)
