"""Suppressed addresses, and the bounces and complaints that suppress them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from typing import Literal, cast

import structlog
from sqlalchemy import delete, or_, select

from homeroom.db.ids import new_id
from homeroom.db.tx import Tx
from homeroom.errors import BadRequest
from homeroom.notify import bounce_mail, store
from homeroom.notify.bounce_mail import DeliveryNotice, NoticeKind
from homeroom.notify.delivery_rules import DeliveryStatus, Reason, ReasonCode
from homeroom.notify.message import Channel, DeliveryObserver
from homeroom.notify.smtp_response import redact_response
from homeroom.notify.tables import BOUNCE, EMAIL_HOOK_TOKEN, SUPPRESSION, UNMATCHED_NOTICE

log = structlog.get_logger(__name__)
GLOBAL_SCOPE = "global"
SOFT_BOUNCE_LIMIT = 5
SOFT_BOUNCE_WINDOW_US = 30 * 86_400 * 1_000_000
"""Soft bounces of so many mails within so many microseconds suppress an address."""
SOFT_SUPPRESSION_US = 30 * 86_400 * 1_000_000
"""Time after which a suppression by soft bounces ends, in microseconds."""
UNMATCHED_RETENTION_US = 90 * 86_400 * 1_000_000
"""Time for which a report that matches no mail is kept, in microseconds."""
_MAX_DETAIL_LENGTH = 500
_MAX_ID_LENGTH = 128
NOTICE_STATUSES: Mapping[NoticeKind, tuple[DeliveryStatus, ReasonCode]] = {
    "hard": (DeliveryStatus.BOUNCED, ReasonCode.HARD_BOUNCE),
    "soft": (DeliveryStatus.BOUNCED, ReasonCode.SOFT_BOUNCE),
    "block": (DeliveryStatus.BOUNCED, ReasonCode.BLOCK_BOUNCE),
    "complaint": (DeliveryStatus.COMPLAINED, ReasonCode.COMPLAINT),
    "delivered": (DeliveryStatus.DELIVERED, ReasonCode.DELIVERY_CONFIRMED),
}
"""The status that a notice leads to, and the code of its reason; others lead to none."""


@dataclass(frozen=True, slots=True)
class Suppression:
    """An address to which nothing is sent."""

    id: str
    channel: str
    address: str
    scope: str
    reason: str
    detail: str
    created_at: int
    expires_at: int | None = None
    """The instant at which it ends, of soft ones; None: an operator has to lift it."""


@dataclass(frozen=True, slots=True)
class _Bounce:
    id: str
    source_id: str
    delivery_id: str | None
    channel: Channel
    address: str
    kind: Literal["hard", "soft", "block", "complaint"]
    detail: str
    at: int


@dataclass(frozen=True, slots=True)
class UnmatchedNotice:
    """A report about no mail that Homeroom knows."""

    id: str
    source_id: str
    kind: str
    server_id: str | None
    recipient: str | None
    """The recipient that the report names, masked."""
    detail: str
    at: int


@dataclass(frozen=True, slots=True)
class _HookToken:
    token_hash: str
    body_hash: str
    at: int


@dataclass(frozen=True, slots=True)
class NoticeCounts:
    """Counts of notices: about mails of Homeroom, about others, ignored."""

    known: int = 0
    unknown: int = 0
    ignored: int = 0
    """Delayed mails and automatic replies: nothing is final."""


class BounceRecorder:
    """Records bounces and complaints from SMTP, DSN mails and provider webhooks."""

    def __init__(self, observe: DeliveryObserver) -> None:
        """Configure the observer of status changes."""
        self._observe = observe

    async def record(
        self,
        tx: Tx,
        source_id: str,
        delivery_id: str | None,
        channel: Channel,
        address: str,
        kind: Literal["hard", "soft", "block", "complaint"],
        detail: str,
    ) -> bool:
        """Store a bounce once by its source, and suppress the address where that is due.

        Return whether it is new. A block speaks of the sender or the mail, so it never counts
        against the address.
        """
        address = normalize_address(address)
        bounce = _Bounce(
            new_id(),
            source_id,
            delivery_id,
            channel,
            address,
            kind,
            detail[:_MAX_DETAIL_LENGTH],
            tx.now,
        )
        if not await tx.insert(BOUNCE, [bounce], on_conflict="ignore"):
            return False
        if kind == "block":
            return True
        await _end_expired(tx, channel, address)
        if kind == "soft":
            since = tx.now - SOFT_BOUNCE_WINDOW_US
            if await count_soft_bounces(tx, address, since) < SOFT_BOUNCE_LIMIT:
                return True
            detail = f"{SOFT_BOUNCE_LIMIT} soft bounces, the last: {detail}"
        if await add_suppression(tx, channel, address, kind, detail):
            log.warning(
                "address_suppressed", channel=channel.value, reason=kind, delivery_id=delivery_id
            )
        return True

    async def receive_notices(
        self, tx: Tx, source_id: str, notices: list[DeliveryNotice]
    ) -> NoticeCounts:
        """Apply notices about mails that Homeroom sent; keep and count others.

        A notice has to name a mail of Homeroom, by an id that only its recipient and the servers
        between know. Its recipient is not trusted: the address that is suppressed is the one that
        the mail was sent to.
        """
        known = unknown = ignored = 0
        for index, notice in enumerate(notices):
            if notice.kind not in NOTICE_STATUSES:
                ignored += 1
                continue
            notice = replace(notice, detail=redact_response(notice.detail))
            source = f"{source_id}:{index}" if notice.event_id is None else notice.event_id
            ids = _delivery_ids(notice)
            found = await store.find_mail(tx, ids, notice.server_id)
            if found is None or found[0].address is None:
                unknown += 1
                if notice.kind != "delivered":  # other systems may share the provider's account
                    await _keep_unmatched(tx, source, notice)
                continue
            known += 1
            await self._apply(tx, source, *found, notice)
        return NoticeCounts(known, unknown, ignored)

    async def apply_early_notices(
        self, tx: Tx, delivery: store.Delivery, notification: store.Notification, server_id: str
    ) -> None:
        """Apply the reports that came before the server's answer was recorded."""
        rows = await tx.fetch_into(
            UnmatchedNotice,
            select(UNMATCHED_NOTICE)
            .where(UNMATCHED_NOTICE.c.server_id == server_id)
            .order_by(UNMATCHED_NOTICE.c.id),
        )
        for row in rows:
            kind = cast(NoticeKind, row.kind)
            notice = DeliveryNotice(kind, None, row.recipient, row.detail)
            await self._apply(tx, row.source_id, delivery, notification, notice)
            await tx.execute("DELETE FROM unmatched_notice WHERE id = ?", (row.id,))

    async def _apply(
        self,
        tx: Tx,
        source_id: str,
        delivery: store.Delivery,
        notification: store.Notification,
        notice: DeliveryNotice,
    ) -> None:
        if notice.kind != "delivered" and not await self.record(
            tx,
            source_id,
            delivery.id,
            delivery.channel,
            delivery.address or "",
            cast(Literal["hard", "soft", "block", "complaint"], notice.kind),
            notice.detail,
        ):
            return  # a repeated report: the delivery may have been sent again since
        together = [(delivery, notification)]
        if delivery.bundle is not None:
            together = await store.list_bundle_deliveries(tx, delivery.bundle)
        status, code = NOTICE_STATUSES[notice.kind]
        reason = Reason(code, notice.detail)
        for each, message in together:
            if await store.transition_delivery(tx, each.id, status, reason=reason):
                type, channel = message.type, each.channel.value
                tx.after_commit(_observe_status(self._observe, type, channel, status))


def _observe_status(
    observe: DeliveryObserver, type: str, channel: str, status: DeliveryStatus
) -> Callable[[], None]:
    return lambda: observe(type, channel, status.value)


def _delivery_ids(notice: DeliveryNotice) -> list[str]:
    """Return the ids that may be those of the delivery, each once, the surest first."""
    ids = list(notice.references)
    if notice.message_id is not None:
        ids.insert(0, notice.message_id.strip().lstrip("<").split("@")[0])
    return [id for id in dict.fromkeys(ids) if len(id) <= _MAX_ID_LENGTH]


async def _keep_unmatched(tx: Tx, source_id: str, notice: DeliveryNotice) -> None:
    recipient = None if notice.recipient is None else redact_response(notice.recipient)
    row = UnmatchedNotice(
        new_id(), source_id, notice.kind, notice.server_id, recipient, notice.detail, tx.now
    )
    if await tx.insert(UNMATCHED_NOTICE, [row], on_conflict="ignore"):
        tx.after_commit(
            lambda: log.info("mail_notice_unmatched", kind=notice.kind, source_id=source_id)
        )


async def list_unmatched(tx: Tx, count: int, before_id: str | None = None) -> list[UnmatchedNotice]:
    """Return reports that match no mail, newest first, before an id."""
    statement = select(UNMATCHED_NOTICE).order_by(UNMATCHED_NOTICE.c.id.desc()).limit(count)
    if before_id is not None:
        statement = statement.where(UNMATCHED_NOTICE.c.id < before_id)
    return await tx.fetch_into(UnmatchedNotice, statement)


async def use_hook_token(tx: Tx, token: str, body: bytes) -> bool:
    """Store a webhook's token; return False if another body came with it before."""
    token_hash, body_hash = (
        hashlib.sha256(each).hexdigest() for each in (token.encode("utf-8", "replace"), body)
    )
    row = _HookToken(token_hash, body_hash, tx.now)
    if await tx.insert(EMAIL_HOOK_TOKEN, [row], on_conflict="ignore"):
        return True
    stored = await tx.fetch_one(
        "SELECT body_hash FROM email_hook_token WHERE token_hash = ?", (token_hash,)
    )
    return stored is not None and stored[0] == body_hash


async def prune_expired(tx: Tx) -> int:
    """Delete ended suppressions and old unmatched reports; count them."""
    ended = await tx.fetch(
        "SELECT channel, address FROM suppression WHERE expires_at IS NOT NULL AND expires_at <= ?",
        (tx.now,),
    )
    for channel, address in ended:
        await _end_expired(tx, Channel(channel), address)
    before = (tx.now - UNMATCHED_RETENTION_US,)
    old = await tx.execute("DELETE FROM unmatched_notice WHERE at < ?", before)
    await tx.execute("DELETE FROM email_hook_token WHERE at < ?", before)
    return len(ended) + old


def parse_dsn(raw: bytes) -> list[DeliveryNotice]:
    """Parse a bounce or complaint mail; raise ``BadRequest``."""
    try:
        return bounce_mail.parse_notices(raw)
    except bounce_mail.UnreadableNotice as error:
        raise BadRequest(f"The mail is not a bounce or a complaint: {error}.") from error


def normalize_address(address: str) -> str:
    """Return an address as suppressions compare it: without regard to case."""
    return address.strip().lower()


async def get_suppressions(
    tx: Tx, addresses: Collection[tuple[Channel, str]]
) -> dict[tuple[Channel, str, str], str]:
    """Return the causes of suppressions by channel, address and scope."""
    rows = await tx.fetch_by_keys(
        "SELECT s.channel, s.address, s.scope, s.reason, s.expires_at FROM {keys} AS k"
        " JOIN suppression AS s ON s.channel = k.column1 AND s.address = k.column2",
        sorted({(channel.value, normalize_address(address)) for channel, address in addresses}),
    )
    return {
        (Channel(channel), address, scope): reason
        for channel, address, scope, reason, expires_at in rows
        if expires_at is None or expires_at > tx.now
    }


async def add_suppression(
    tx: Tx, channel: Channel, address: str, reason: str, detail: str, scope: str = GLOBAL_SCOPE
) -> bool:
    """Suppress an address and return whether it was not; the first reason stays.

    A soft one ends by itself; a hard bounce or a complaint makes it last.
    """
    expires_at = tx.now + SOFT_SUPPRESSION_US if reason == "soft" else None
    suppression = Suppression(
        new_id(),
        channel.value,
        normalize_address(address),
        scope,
        reason,
        detail[:_MAX_DETAIL_LENGTH],
        tx.now,
        expires_at,
    )
    if await tx.insert(SUPPRESSION, [suppression], on_conflict="ignore"):
        return True
    if expires_at is not None:
        return False
    replaced = await tx.execute(
        "UPDATE suppression SET reason = ?, detail = ?, expires_at = NULL"
        " WHERE channel = ? AND address = ? AND scope = ? AND expires_at IS NOT NULL",
        (reason, suppression.detail, channel.value, suppression.address, scope),
    )
    return bool(replaced)


async def count_suppressions(tx: Tx) -> dict[str, int]:
    """Return the number of suppressed addresses by reason; expired ones do not count."""
    rows = await tx.fetch(
        "SELECT reason, COUNT(*) FROM suppression WHERE expires_at IS NULL OR expires_at > ?"
        " GROUP BY reason",
        (tx.now,),
    )
    return dict(rows)


async def list_suppressions(tx: Tx, before_id: str | None, count: int) -> list[Suppression]:
    """Return suppressed addresses, newest first, before an id."""
    is_current = or_(SUPPRESSION.c.expires_at.is_(None), SUPPRESSION.c.expires_at > tx.now)
    statement = select(SUPPRESSION).where(is_current)
    if before_id is not None:
        statement = statement.where(SUPPRESSION.c.id < before_id)
    return await tx.fetch_into(
        Suppression, statement.order_by(SUPPRESSION.c.id.desc()).limit(count)
    )


async def delete_suppression(tx: Tx, id: str) -> Suppression | None:
    """Delete a suppression and return it; None if there is no such id."""
    suppression = await tx.fetch_one_into(
        Suppression, select(SUPPRESSION).where(SUPPRESSION.c.id == id)
    )
    if suppression is None:
        return None
    await tx.execute(delete(SUPPRESSION).where(SUPPRESSION.c.id == id))
    # Soft bounces counted so far must not suppress the address again at the next one.
    await tx.execute(
        delete(BOUNCE).where(BOUNCE.c.address == suppression.address, BOUNCE.c.kind == "soft")
    )
    return suppression


async def _end_expired(tx: Tx, channel: Channel, address: str) -> None:
    """Delete a suppression that has ended, with the soft bounces that led to it."""
    ended = await tx.fetch(
        "SELECT expires_at FROM suppression WHERE channel = ? AND address = ?"
        " AND expires_at IS NOT NULL AND expires_at <= ?",
        (channel.value, address, tx.now),
    )
    for (expires_at,) in ended:
        await tx.execute(
            "DELETE FROM bounce WHERE address = ? AND kind = 'soft' AND at <= ?",
            (address, expires_at),
        )
        await tx.execute(
            "DELETE FROM suppression WHERE channel = ? AND address = ? AND expires_at = ?",
            (channel.value, address, expires_at),
        )


async def count_soft_bounces(tx: Tx, address: str, since: int) -> int:
    """Return the number of mails to an address that bounced softly since an instant."""
    [(count,)] = await tx.fetch(
        "SELECT COUNT(DISTINCT COALESCE(delivery_id, id)) FROM bounce"
        " WHERE address = ? AND kind = 'soft' AND at >= ?",
        (normalize_address(address), since),
    )
    return int(count)
