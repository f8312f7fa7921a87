"""The rows of what people want and of addresses that nothing is sent to any more."""

from __future__ import annotations

import secrets
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from sqlalchemy import delete, select

from homeroom.db.id import new_id
from homeroom.db.tx import Tx
from homeroom.notify.kind import Channel
from homeroom.notify.table import BOUNCE, LINK_KEY, PREFERENCE, SUPPRESSION

GLOBAL = "global"


@dataclass(frozen=True, slots=True)
class Profile:
    """How somebody wants to be reached. Times of day are minutes after midnight."""

    user_id: str
    quiet_start: int | None = None
    quiet_end: int | None = None
    digest_minute: int | None = None
    sms: str | None = None
    chat: str | None = None


@dataclass(frozen=True, slots=True)
class Suppression:
    """An address that nothing is sent to any more."""

    id: str
    channel: str
    address: str
    scope: str
    reason: str
    detail: str
    created_at: int


def normal(address: str) -> str:
    """Return an address as suppressions are compared: nobody has two mailboxes by case alone."""
    return address.strip().lower()


async def profiles(tx: Tx, user_ids: Collection[str]) -> dict[str, Profile]:
    """Return the profiles of those people who have one."""
    rows = await tx.fetch_keyed(
        "SELECT p.user_id, p.quiet_start, p.quiet_end, p.digest_minute, p.sms, p.chat"
        " FROM {keys} AS k JOIN notification_profile AS p ON p.user_id = k.column1",
        [(user_id,) for user_id in sorted(set(user_ids))],
    )
    return {row[0]: Profile(*row) for row in rows}


async def put_profile(tx: Tx, profile: Profile) -> None:
    """Store a profile, replacing what was known."""
    await tx.execute(
        "INSERT INTO notification_profile (user_id, quiet_start, quiet_end, digest_minute, sms,"
        " chat, updated_at) VALUES (?, ?, ?, ?, ?, ?, ?)"
        " ON CONFLICT (user_id) DO UPDATE SET quiet_start = excluded.quiet_start,"
        " quiet_end = excluded.quiet_end, digest_minute = excluded.digest_minute,"
        " sms = excluded.sms, chat = excluded.chat, updated_at = excluded.updated_at",
        (
            profile.user_id,
            profile.quiet_start,
            profile.quiet_end,
            profile.digest_minute,
            profile.sms,
            profile.chat,
            tx.now,
        ),
    )


async def preferences(
    tx: Tx, user_ids: Collection[str]
) -> dict[str, dict[tuple[str, Channel], bool]]:
    """Return by person what they want by type and channel, where they said so."""
    rows = await tx.fetch_keyed(
        "SELECT p.user_id, p.type, p.channel, p.wanted FROM {keys} AS k"
        " JOIN notification_preference AS p ON p.user_id = k.column1",
        [(user_id,) for user_id in sorted(set(user_ids))],
    )
    found: dict[str, dict[tuple[str, Channel], bool]] = {}
    for user_id, type, channel, wanted in rows:
        found.setdefault(user_id, {})[type, Channel(channel)] = bool(wanted)
    return found


async def put_preference(
    tx: Tx, user_id: str, type: str, channel: Channel, wanted: bool, source: str
) -> None:
    """Store whether somebody wants a type on a channel."""
    await tx.execute(
        "INSERT INTO notification_preference (user_id, type, channel, wanted, source, updated_at)"
        " VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (user_id, type, channel) DO UPDATE SET"
        " wanted = excluded.wanted, source = excluded.source, updated_at = excluded.updated_at",
        (user_id, type, channel.value, int(wanted), source, tx.now),
    )


async def clear_preferences(tx: Tx, user_id: str) -> None:
    """Forget what somebody wants, before the whole of it is stored anew."""
    await tx.execute(delete(PREFERENCE).where(PREFERENCE.c.user_id == user_id))


async def suppressed(
    tx: Tx, addresses: Collection[tuple[Channel, str]]
) -> dict[tuple[Channel, str, str], str]:
    """Return why addresses are suppressed, by channel, address and scope."""
    rows = await tx.fetch_keyed(
        "SELECT s.channel, s.address, s.scope, s.reason FROM {keys} AS k"
        " JOIN suppression AS s ON s.channel = k.column1 AND s.address = k.column2",
        sorted({(channel.value, normal(address)) for channel, address in addresses}),
    )
    return {(Channel(row[0]), row[1], row[2]): row[3] for row in rows}


async def suppress(
    tx: Tx, channel: Channel, address: str, reason: str, detail: str, scope: str = GLOBAL
) -> None:
    """Send nothing to an address any more; the first reason stays."""
    await tx.execute(
        "INSERT INTO suppression (id, channel, address, scope, reason, detail, created_at)"
        " VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (channel, address, scope) DO NOTHING",
        (new_id(), channel.value, normal(address), scope, reason, detail[:500], tx.now),
    )


async def newest_suppressions(tx: Tx, before_id: str | None, count: int) -> list[Suppression]:
    """Return suppressed addresses, newest first, before an id."""
    statement = select(SUPPRESSION)
    if before_id is not None:
        statement = statement.where(SUPPRESSION.c.id < before_id)
    rows = await tx.fetch(statement.order_by(SUPPRESSION.c.id.desc()).limit(count))
    return [Suppression(*row) for row in rows]


async def lift(tx: Tx, id: str) -> Suppression | None:
    """Send to an address again; return what was lifted."""
    row = await tx.fetch_one(select(SUPPRESSION).where(SUPPRESSION.c.id == id))
    if row is None:
        return None
    await tx.execute(delete(SUPPRESSION).where(SUPPRESSION.c.id == id))
    found = Suppression(*row)
    # what was counted so far must not suppress it again at the first soft bounce
    await tx.execute(
        delete(BOUNCE).where(BOUNCE.c.address == found.address, BOUNCE.c.kind == "soft")
    )
    return found


async def add_bounce(tx: Tx, source_id: str, values: Sequence[object]) -> bool:
    """Insert (delivery, channel, address, kind, detail); False if it was told before."""
    changed = await tx.execute(
        "INSERT INTO bounce (id, source_id, delivery_id, channel, address, kind, detail, at)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (source_id) DO NOTHING",
        (new_id(), source_id, *values, tx.now),
    )
    return changed == 1


async def soft_bounces(tx: Tx, address: str, since: int) -> int:
    """Return how often an address bounced for now since an instant."""
    row = await tx.fetch_one(
        "SELECT COUNT(*) FROM bounce WHERE address = ? AND kind = 'soft' AND at >= ?",
        (normal(address), since),
    )
    return 0 if row is None else int(row[0])


async def link_key(tx: Tx) -> bytes:
    """Return the key that signs links, made at the first call of a writing transaction."""
    row = await tx.fetch_one(select(LINK_KEY.c.secret).where(LINK_KEY.c.id == 1))
    if row is None:
        await tx.execute(
            "INSERT INTO link_key (id, secret, created_at) VALUES (1, ?, ?)"
            " ON CONFLICT (id) DO NOTHING",
            (secrets.token_hex(32), tx.now),
        )
        row = await tx.fetch_one(select(LINK_KEY.c.secret).where(LINK_KEY.c.id == 1))
    assert row is not None
    return bytes.fromhex(row[0])


async def known_link_key(tx: Tx) -> bytes | None:
    """Return the key that signs links, or None before the first link was made."""
    row = await tx.fetch_one(select(LINK_KEY.c.secret).where(LINK_KEY.c.id == 1))
    return None if row is None else bytes.fromhex(row[0])
