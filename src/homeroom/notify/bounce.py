"""Take note of mails that came back, and stop writing to addresses that are bad."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Literal

import msgspec
import structlog

from homeroom.db.tx import Tx
from homeroom.errors import BadRequest
from homeroom.notify import dsn, store, want
from homeroom.notify.kind import Channel
from homeroom.notify.notifier import Observe
from homeroom.notify.reply import said
from homeroom.notify.state import Status

log = structlog.get_logger(__name__)
SOFT_LIMIT = 5
SOFT_SPAN = 30 * 86_400 * 1_000_000
"""So many soft bounces within so many microseconds suppress an address."""
What = Literal["hard", "soft", "complaint", "delivered"]
_STATUS: Mapping[What, Status] = {
    "hard": Status.BOUNCED,
    "soft": Status.BOUNCED,
    "complaint": Status.COMPLAINED,
    "delivered": Status.DELIVERED,
}


class Event(msgspec.Struct, frozen=True, rename="camel"):
    """What a mail provider tells of one mail, in Homeroom's own words."""

    event: Literal["bounce", "complaint", "delivered"]
    message_id: str | None = None
    recipient: str | None = None
    kind: Literal["hard", "soft"] = "hard"
    detail: str = ""


class Events(msgspec.Struct, frozen=True):
    """What a provider's webhook carries."""

    events: list[Event]


@dataclass(frozen=True, slots=True)
class Heard:
    """How many notices were about mails of ours, and how many were not."""

    known: int = 0
    unknown: int = 0


class Bounces:
    """Records bounces and complaints; the same for a reply, a DSN and a provider's webhook."""

    def __init__(self, observe: Observe) -> None:
        """Take what counts."""
        self._observe = observe

    async def record(
        self,
        tx: Tx,
        source_id: str,
        delivery_id: str | None,
        channel: Channel,
        address: str,
        what: Literal["hard", "soft", "complaint"],
        detail: str,
    ) -> bool:
        """Store a bounce once by its source, and suppress the address where that is due."""
        address = want.normal(address)
        values = (delivery_id, channel.value, address, what, detail[:500])
        if not await want.add_bounce(tx, source_id, values):
            return False
        if what == "soft":
            if await want.soft_bounces(tx, address, tx.now - SOFT_SPAN) < SOFT_LIMIT:
                return True
            detail = f"{SOFT_LIMIT} soft bounces, the last: {detail}"
        await want.suppress(tx, channel, address, what, detail)
        log.warning("address_suppressed", channel=channel.value, reason=what, delivery=delivery_id)
        return True

    async def hear(self, tx: Tx, source_id: str, notices: list[dsn.Notice]) -> Heard:
        """Take notices about mails that had been accepted; those of others change nothing.

        A notice has to name a mail of ours by its Message-ID. The recipient it names is not
        believed: what is suppressed is the address that we sent to.
        """
        known = unknown = 0
        for index, notice in enumerate(notices):
            found = await self._delivery(tx, notice.message_id)
            if found is None:
                unknown += 1
                continue
            known += 1
            notice = replace(notice, detail=said(notice.detail))
            await self._apply(tx, f"{source_id}:{index}", found[0], found[1], notice)
        return Heard(known, unknown)

    async def _delivery(
        self, tx: Tx, message_id: str | None
    ) -> tuple[store.Delivery, store.Notification] | None:
        if message_id is None:
            return None
        return await store.get(tx, message_id.strip().lstrip("<").split("@")[0])

    async def _apply(
        self,
        tx: Tx,
        source_id: str,
        delivery: store.Delivery,
        notification: store.Notification,
        notice: dsn.Notice,
    ) -> None:
        together = [(delivery, notification)]
        if delivery.bundle is not None:
            together = await store.of_bundle(tx, delivery.bundle)
        status = _STATUS[notice.what]
        for each, message in together:
            if await store.move(tx, each.id, status, reason=notice.detail):
                type, channel = message.type, each.channel.value
                tx.after_commit(_counting(self._observe, type, channel, status))
        if notice.what != "delivered" and delivery.address is not None:
            await self.record(
                tx,
                source_id,
                delivery.id,
                delivery.channel,
                delivery.address,
                notice.what,
                notice.detail,
            )


def _counting(observe: Observe, type: str, channel: str, status: Status) -> Callable[[], None]:
    return lambda: observe(type, channel, status.value)


def read_events(body: bytes) -> list[dsn.Notice]:
    """Read a provider's events; raise ``BadRequest``."""
    try:
        found = msgspec.json.decode(body, type=Events)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise BadRequest(f"The body is not a list of events: {error}.") from error
    return [
        dsn.Notice(
            event.kind if event.event == "bounce" else event.event,
            event.message_id,
            event.recipient,
            event.detail,
        )
        for event in found.events
    ]


def read_dsn(raw: bytes) -> list[dsn.Notice]:
    """Read a bounce as the mail that it is; raise ``BadRequest``."""
    try:
        return dsn.read(raw)
    except dsn.Unreadable as error:
        raise BadRequest(f"The mail cannot be read as a bounce: {error}.") from error
