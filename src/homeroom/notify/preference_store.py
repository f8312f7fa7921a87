"""SQL of preferences: channels by type, quiet hours, digest, further addresses."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TypeVar

from sqlalchemy import Table, delete

from homeroom.db.tables import record_reader
from homeroom.db.tx import Tx
from homeroom.notify.message import Channel
from homeroom.notify.tables import NOTIFICATION_PREFERENCE, NOTIFICATION_PROFILE

RecordType = TypeVar("RecordType")


@dataclass(frozen=True, slots=True)
class NotificationProfile:
    """A person's times and further addresses. Times are minutes after midnight."""

    user_id: str
    quiet_start: int | None = None
    quiet_end: int | None = None
    digest_minute: int | None = None
    sms: str | None = None
    chat: str | None = None


@dataclass(frozen=True, slots=True)
class ChannelPreference:
    """A person's choice for one type on one channel."""

    user_id: str
    type: str
    channel: Channel
    wanted: bool
    source: str
    """``person``, ``link`` or ``staff``."""


async def get_profiles(tx: Tx, user_ids: Collection[str]) -> dict[str, NotificationProfile]:
    """Return the profiles of those people who have one."""
    profiles = await _fetch_by_user(tx, NotificationProfile, NOTIFICATION_PROFILE, user_ids)
    return {profile.user_id: profile for profile in profiles}


async def put_profile(tx: Tx, profile: NotificationProfile) -> None:
    """Store a profile, replacing an earlier one."""
    await tx.insert(NOTIFICATION_PROFILE, [profile], on_conflict="update", updated_at=tx.now)


async def get_preferences(
    tx: Tx, user_ids: Collection[str]
) -> dict[str, dict[tuple[str, Channel], bool]]:
    """Return the choices of people by type and channel; missing ones were never made."""
    choices: dict[str, dict[tuple[str, Channel], bool]] = {}
    for each in await _fetch_by_user(tx, ChannelPreference, NOTIFICATION_PREFERENCE, user_ids):
        choices.setdefault(each.user_id, {})[each.type, each.channel] = each.wanted
    return choices


async def put_preferences(tx: Tx, preferences: Sequence[ChannelPreference]) -> None:
    """Store choices, replacing earlier ones for the same types and channels."""
    await tx.insert(NOTIFICATION_PREFERENCE, preferences, on_conflict="update", updated_at=tx.now)


async def delete_preferences(tx: Tx, user_id: str) -> None:
    """Delete all choices of a person, before the whole set is stored again."""
    await tx.execute(
        delete(NOTIFICATION_PREFERENCE).where(NOTIFICATION_PREFERENCE.c.user_id == user_id)
    )


async def _fetch_by_user(
    tx: Tx, of: type[RecordType], table: Table, user_ids: Collection[str]
) -> list[RecordType]:
    """Return the rows of any number of people as records."""
    columns = tuple(table.columns.keys())
    rows = await tx.fetch_by_keys(
        f"SELECT {', '.join(f't.{name}' for name in columns)}"
        f" FROM {{keys}} AS k JOIN {table.name} AS t ON t.user_id = k.column1",
        [(user_id,) for user_id in sorted(set(user_ids))],
    )
    return list(map(record_reader(of, columns), rows))
