"""SQL of notifications, deliveries, attempts and the link key.

Instants are microseconds UTC.
"""

from __future__ import annotations

import secrets
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select

from homeroom.db.tables import record_reader
from homeroom.db.tx import Row, Tx
from homeroom.notify.delivery_rules import RESOLVED_REASON, DeliveryStatus, Reason, statuses_before
from homeroom.notify.message import Channel, Recipient
from homeroom.notify.tables import DELIVERY, DELIVERY_ATTEMPT, LINK_KEY, NOTIFICATION

_DELIVERY_COLUMNS = tuple(DELIVERY.columns.keys())
_NOTIFICATION_COLUMNS = tuple(NOTIFICATION.columns.keys())
_SELECT_NOTIFICATION = ", ".join(f"n.{name}" for name in _NOTIFICATION_COLUMNS)
_SELECT_DELIVERIES = (
    f"SELECT {', '.join(f'd.{name}' for name in _DELIVERY_COLUMNS)}, {_SELECT_NOTIFICATION}"
    " FROM delivery AS d JOIN notification AS n ON n.id = d.notification_id"
)


@dataclass(frozen=True, slots=True)
class Notification:
    """The row of one message to one person."""

    id: str
    dedupe_key: str
    type: str
    user_id: str
    params: Mapping[str, Any]
    about: Mapping[str, Any] | None
    metadata: Mapping[str, Any]
    group_name: str | None
    created_at: int
    expires_at: int | None
    recipient: Recipient | None = None
    read_at: int | None = None
    resolved_at: int | None = None
    purged_at: int | None = None

    @property
    def programme_id(self) -> str | None:
        """Return the programme that the message is about, by its metadata; None: of none."""
        programme_id = self.metadata.get("programmeId")
        return programme_id if isinstance(programme_id, str) else None


@dataclass(frozen=True, slots=True)
class Delivery:
    """The row of a message's delivery on one channel."""

    id: str
    notification_id: str
    channel: Channel
    status: DeliveryStatus
    reason: str | None
    reason_code: str | None
    """A ``ReasonCode``, or a code of a later release; None in rows of earlier releases."""
    bundle: str | None
    not_before: int | None
    job: str | None
    created_at: int
    updated_at: int
    attempts: int = 0
    address: str | None = None
    asked_by: str | None = None
    asked_why: str | None = None
    accepted_at: int | None = None
    server_id: str | None = None
    """The id by which the server that accepted the mail named it in its answer."""


@dataclass(frozen=True, slots=True)
class DeliveryAttempt:
    """The row of one attempt of a delivery."""

    number: int
    started_at: int
    finished_at: int | None = None
    outcome: str | None = None
    code: int | None = None
    error: str | None = None
    actor: str | None = None
    why: str | None = None


@dataclass(frozen=True, slots=True)
class _LinkKey:
    secret: str


def _to_pair(row: Row) -> tuple[Delivery, Notification]:
    """Map a row of ``_SELECT_DELIVERIES``: its tables share column names."""
    width = len(_DELIVERY_COLUMNS)
    return (
        record_reader(Delivery, _DELIVERY_COLUMNS)(row[:width]),
        record_reader(Notification, _NOTIFICATION_COLUMNS)(row[width:]),
    )


async def add_notifications(tx: Tx, notifications: Sequence[Notification]) -> set[str]:
    """Insert notifications whose keys are new and return their ids.

    Two notifications with one key are one row.
    """
    await tx.insert(NOTIFICATION, notifications, on_conflict="ignore")
    stored = await tx.fetch_by_keys(
        "SELECT n.id FROM {keys} AS k JOIN notification AS n ON n.dedupe_key = k.column1",
        [(each.dedupe_key,) for each in notifications],
    )
    return {id for (id,) in stored} & {each.id for each in notifications}


async def find_sent_keys(tx: Tx, keys: Sequence[str]) -> set[str]:
    """Return those of some keys that have a notification."""
    rows = await tx.fetch_by_keys(
        "SELECT n.dedupe_key FROM {keys} AS k JOIN notification AS n ON n.dedupe_key = k.column1",
        [(key,) for key in keys],
    )
    return {key for (key,) in rows}


async def add_deliveries(tx: Tx, deliveries: Sequence[Delivery]) -> None:
    """Insert deliveries; a notification has at most one per channel."""
    await tx.insert(DELIVERY, deliveries, on_conflict="ignore")


async def get_delivery(
    tx: Tx, delivery_id: str, *, lock: bool = False
) -> tuple[Delivery, Notification] | None:
    """Return a delivery with its notification; ``lock`` locks its row."""
    row = await tx.fetch_one(
        f"{_SELECT_DELIVERIES} WHERE d.id = ?{_row_lock_clause(tx, lock)}", (delivery_id,)
    )
    return None if row is None else _to_pair(row)


async def list_bundle_deliveries(
    tx: Tx, bundle: str, *, lock: bool = False
) -> list[tuple[Delivery, Notification]]:
    """Return the deliveries of a bundle, the oldest first; ``lock`` locks the rows."""
    rows = await tx.fetch(
        f"{_SELECT_DELIVERIES} WHERE d.bundle = ? ORDER BY d.id{_row_lock_clause(tx, lock)}",
        (bundle,),
    )
    return [_to_pair(row) for row in rows]


def _row_lock_clause(tx: Tx, lock: bool) -> str:
    """Return the clause that locks deliveries, but not their notifications."""
    return f"{tx.row_lock} OF d" if lock and tx.row_lock else ""


async def list_deliveries(
    tx: Tx,
    *,
    status: str | None,
    channel: str | None,
    user_id: str | None,
    before_id: str | None,
    count: int,
) -> list[tuple[Delivery, Notification]]:
    """Return deliveries with their notifications, newest first, before an id."""
    conditions = {
        "d.status = ?": status,
        "d.channel = ?": channel,
        "n.user_id = ?": user_id,
        "d.id < ?": before_id,
    }
    set_conditions = {sql: value for sql, value in conditions.items() if value is not None}
    where = f" WHERE {' AND '.join(set_conditions)}" if set_conditions else ""
    rows = await tx.fetch(
        f"{_SELECT_DELIVERIES}{where} ORDER BY d.id DESC LIMIT ?", (*set_conditions.values(), count)
    )
    return [_to_pair(row) for row in rows]


async def transition_delivery(
    tx: Tx,
    delivery_id: str,
    status: DeliveryStatus,
    *,
    reason: Reason | None = None,
    only_from: Collection[DeliveryStatus] | None = None,
) -> bool:
    """Set a delivery's status if the transition is legal; return whether it changed."""
    allowed = [each for each in statuses_before(status) if only_from is None or each in only_from]
    accepted = tx.now if status in (DeliveryStatus.ACCEPTED, DeliveryStatus.DELIVERED) else None
    changed = await tx.execute(
        "UPDATE delivery SET status = ?, reason = ?, reason_code = ?, updated_at = ?,"
        " accepted_at = COALESCE(accepted_at, ?) WHERE id = ?"
        f" AND status IN ({', '.join('?' * len(allowed))})",
        (
            status.value,
            None if reason is None else reason.text,
            None if reason is None else reason.code.value,
            tx.now,
            accepted,
            delivery_id,
            *[each.value for each in allowed],
        ),
    )
    return changed == 1


async def set_wait_reason(tx: Tx, delivery_id: str, reason: Reason) -> None:
    """Record why a pending delivery waits."""
    await tx.execute(
        "UPDATE delivery SET reason = ?, reason_code = ?, updated_at = ?"
        " WHERE id = ? AND status = 'pending'",
        (reason.text, reason.code.value, tx.now, delivery_id),
    )


async def set_server_id(tx: Tx, delivery_id: str, server_id: str) -> None:
    """Record the id by which the accepting server named a mail."""
    await tx.execute("UPDATE delivery SET server_id = ? WHERE id = ?", (server_id, delivery_id))


async def find_mail(
    tx: Tx, delivery_ids: Sequence[str], server_id: str | None
) -> tuple[Delivery, Notification] | None:
    """Return the mail of the first known delivery id, else the one of a server's id."""
    for delivery_id in delivery_ids:
        row = await get_delivery(tx, delivery_id, lock=True)
        if row is not None and row[0].channel is Channel.EMAIL:
            return row
    if server_id is None:
        return None
    row = await tx.fetch_one(
        f"{_SELECT_DELIVERIES} WHERE d.server_id = ? AND d.channel = 'email' ORDER BY d.id LIMIT 1",
        (server_id,),
    )
    return None if row is None else _to_pair(row)


async def begin_attempt(tx: Tx, delivery: Delivery, address: str) -> int:
    """Set a pending delivery to sending and return the number of its attempt."""
    number = delivery.attempts + 1
    await tx.execute(
        "UPDATE delivery SET status = 'sending', reason = NULL, reason_code = NULL, address = ?,"
        " attempts = ?, updated_at = ?, asked_by = NULL, asked_why = NULL"
        " WHERE id = ? AND status = 'pending'",
        (address, number, tx.now, delivery.id),
    )
    attempt = DeliveryAttempt(number, tx.now, actor=delivery.asked_by, why=delivery.asked_why)
    await tx.insert(DELIVERY_ATTEMPT, [attempt], delivery_id=delivery.id)
    return number


async def end_attempt(
    tx: Tx, delivery_id: str, number: int, outcome: str, code: int | None, error: str | None
) -> None:
    """Record the outcome of an attempt."""
    await tx.execute(
        "UPDATE delivery_attempt SET finished_at = ?, outcome = ?, code = ?, error = ?"
        " WHERE delivery_id = ? AND number = ? AND finished_at IS NULL",
        (tx.now, outcome, code, error, delivery_id, number),
    )


async def request_resend(tx: Tx, delivery_id: str, job: str, actor: str, why: str) -> None:
    """Set an ended delivery to pending; store the requester and the reason."""
    await tx.execute(
        "UPDATE delivery SET status = 'pending', reason = NULL, reason_code = NULL, job = ?,"
        " asked_by = ?, asked_why = ?, updated_at = ?, bundle = NULL, not_before = NULL"
        " WHERE id = ?",
        (job, actor, why, tx.now, delivery_id),
    )


async def list_attempts(tx: Tx, delivery_id: str) -> list[DeliveryAttempt]:
    """Return the attempts of a delivery, the first one first."""
    statement = (
        select(DELIVERY_ATTEMPT)
        .where(DELIVERY_ATTEMPT.c.delivery_id == delivery_id)
        .order_by(DELIVERY_ATTEMPT.c.number)
    )
    return await tx.fetch_into(DeliveryAttempt, statement)


async def list_inbox(
    tx: Tx, user_id: str, *, unread: bool, before_id: str | None, count: int
) -> list[Notification]:
    """Return the notifications of an inbox, newest first, before an id."""
    return await tx.fetch_into(
        Notification,
        f"SELECT {_SELECT_NOTIFICATION} FROM notification AS n"
        " JOIN delivery AS d ON d.notification_id = n.id"
        " WHERE n.user_id = ? AND d.channel = 'in_app' AND d.status = 'delivered'"
        + (" AND n.read_at IS NULL AND n.resolved_at IS NULL" if unread else "")
        + ("" if before_id is None else " AND n.id < ?")
        + " ORDER BY n.id DESC LIMIT ?",
        (user_id, *([] if before_id is None else [before_id]), count),
    )


async def count_unread(tx: Tx, user_id: str) -> int:
    """Return the number of messages in an inbox that are neither read nor resolved."""
    [(count,)] = await tx.fetch(
        "SELECT COUNT(*) FROM notification AS n JOIN delivery AS d ON d.notification_id = n.id"
        " WHERE n.user_id = ? AND n.read_at IS NULL AND n.resolved_at IS NULL"
        " AND d.channel = 'in_app' AND d.status = 'delivered'",
        (user_id,),
    )
    return int(count)


async def get_notification(tx: Tx, id: str) -> Notification | None:
    """Return a notification."""
    return await tx.fetch_one_into(
        Notification, f"SELECT {_SELECT_NOTIFICATION} FROM notification AS n WHERE n.id = ?", (id,)
    )


async def mark_read(tx: Tx, id: str) -> None:
    """Mark a notification as read; the first time counts."""
    await tx.execute(
        "UPDATE notification SET read_at = ? WHERE id = ? AND read_at IS NULL", (tx.now, id)
    )


async def mark_all_read(tx: Tx, user_id: str) -> int:
    """Mark all notifications of a person as read; return how many were unread."""
    return await tx.execute(
        "UPDATE notification SET read_at = ? WHERE user_id = ? AND read_at IS NULL",
        (tx.now, user_id),
    )


async def resolve_notifications(tx: Tx, keys: Sequence[str], *, cancels: bool = True) -> list[str]:
    """Mark notifications as resolved and cancel pending deliveries; return the ids."""
    rows = await tx.fetch_by_keys(
        "SELECT n.id FROM {keys} AS k JOIN notification AS n ON n.dedupe_key = k.column1"
        " WHERE n.resolved_at IS NULL",
        [(key,) for key in keys],
    )
    ids = [id for (id,) in rows]
    for id in ids:
        await tx.execute("UPDATE notification SET resolved_at = ? WHERE id = ?", (tx.now, id))
        if not cancels:
            continue
        await tx.execute(
            "UPDATE delivery SET status = 'cancelled', reason = ?, reason_code = ?, updated_at = ?"
            " WHERE notification_id = ? AND status = 'pending'",
            (RESOLVED_REASON.text, RESOLVED_REASON.code.value, tx.now, id),
        )
    return ids


async def get_group_start(tx: Tx, user_id: str, group: str, since: int) -> int | None:
    """Return the creation time of the oldest message of a group since an instant."""
    [(oldest,)] = await tx.fetch(
        "SELECT MIN(created_at) FROM notification WHERE user_id = ? AND group_name = ?"
        " AND created_at > ?",
        (user_id, group, since),
    )
    return None if oldest is None else int(oldest)


async def purge_notifications(
    tx: Tx, texts_before: int, rows_before: int, limit: int
) -> tuple[int, int]:
    """Purge texts before one instant and rows before another; return both counts."""
    texts = await tx.execute(
        "UPDATE notification SET params = '{}', about = NULL, metadata = '{}', recipient = NULL,"
        " purged_at = ?"
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


async def get_link_key(tx: Tx) -> bytes | None:
    """Return the key that signs unsubscribe links, or None before the first link."""
    stored = await tx.fetch_one_into(_LinkKey, "SELECT secret FROM link_key WHERE id = 1")
    return None if stored is None else bytes.fromhex(stored.secret)


async def get_or_create_link_key(tx: Tx) -> bytes:
    """Return the key that signs unsubscribe links; the first call of all creates it."""
    key = await get_link_key(tx)
    if key is None:
        new_key = _LinkKey(secrets.token_hex(32))
        await tx.insert(LINK_KEY, [new_key], on_conflict="ignore", id=1, created_at=tx.now)
        key = await get_link_key(tx)
    assert key is not None
    return key
