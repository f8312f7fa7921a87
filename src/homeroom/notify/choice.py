"""Which ways a message takes to somebody, and why not the others (pure).

The order is: suppressed address, mandatory type, what the person switched off, quiet hours, digest
and throttle. Every channel that was considered leaves a delivery with its reason, never silence.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from zoneinfo import ZoneInfo

from homeroom.notify.kind import Channel, Kind
from homeroom.notify.quiet import QuietHours, digest_at
from homeroom.notify.state import Status

NO_ADDRESS: Mapping[Channel, str] = {
    Channel.EMAIL: "no e-mail address is known",
    Channel.SMS: "no number is known",
    Channel.CHAT: "no chat name is known",
}
SWITCHED_OFF = "switched off by the person"
GROUP_SPAN = 10 * 60 * 1_000_000
"""How long messages of a group gather after the first one, in microseconds."""


@dataclass(frozen=True, slots=True)
class Wishes:
    """What a person wants."""

    channels: Mapping[tuple[str, Channel], bool] = field(default_factory=dict)
    """By type and channel: wanted or not. What is missing is as the type has it."""
    quiet: QuietHours | None = None
    digest_minute: int | None = None
    """Minute of the day at which a digest is wanted instead of single mails; None: no digest."""
    zone: ZoneInfo = field(default_factory=lambda: ZoneInfo("UTC"))


@dataclass(frozen=True, slots=True)
class Reach:
    """One channel as it stands for a person: their address there, and what is wrong with it."""

    address: str | None
    off: str | None = None
    """Why the whole channel is not in use, such as a setting that is missing."""
    suppressed: str | None = None
    """Why nothing is sent to this address any more."""


@dataclass(frozen=True, slots=True)
class Choice:
    """One channel's delivery at its beginning."""

    channel: Channel
    status: Status
    reason: str | None = None
    not_before: int | None = None
    """Microseconds UTC; None: at once."""
    bundle: str | None = None
    """Sent together with the others of this name; None: alone."""


@dataclass(frozen=True, slots=True)
class Crowd:
    """The messages of the same group that came before, within its span."""

    name: str
    opens_at: int
    """When those that wait go out together."""


def choose(
    kind: Kind,
    user_id: str,
    wishes: Wishes,
    reach: Mapping[Channel, Reach],
    now: int,
    crowd: Crowd | None = None,
) -> list[Choice]:
    """Return the deliveries of a message: the inbox first, then what else is to be tried."""
    found = []
    for channel in Channel:
        if _is_wanted(kind, wishes, channel) is None:
            continue
        found.append(_one(kind, user_id, wishes, channel, reach.get(channel), now, crowd))
    return found


def _is_wanted(kind: Kind, wishes: Wishes, channel: Channel) -> bool | None:
    """Say whether a channel is wanted; None where neither person nor type thought of it."""
    asked = wishes.channels.get((kind.name, channel))
    if channel in kind.default:
        return kind.mandatory or asked is not False
    return True if asked else None


def _one(
    kind: Kind,
    user_id: str,
    wishes: Wishes,
    channel: Channel,
    reach: Reach | None,
    now: int,
    crowd: Crowd | None,
) -> Choice:
    if channel is Channel.IN_APP:
        if not _is_wanted(kind, wishes, channel):
            return Choice(channel, Status.SKIPPED, SWITCHED_OFF)
        return Choice(channel, Status.DELIVERED)  # committed is delivered: it is in the inbox
    if reach is not None and reach.suppressed is not None:
        return Choice(channel, Status.SUPPRESSED, reach.suppressed)
    if not _is_wanted(kind, wishes, channel):
        return Choice(channel, Status.SKIPPED, SWITCHED_OFF)
    if reach is None or reach.off is not None:
        return Choice(channel, Status.SKIPPED, (reach and reach.off) or "the channel is not set up")
    if reach.address is None:
        return Choice(channel, Status.SKIPPED, NO_ADDRESS[channel])
    return _when(kind, user_id, wishes, channel, now, crowd)


def _when(
    kind: Kind, user_id: str, wishes: Wishes, channel: Channel, now: int, crowd: Crowd | None
) -> Choice:
    """Say when a message goes out that is to be sent: a digest, a group, or by itself."""
    pending = Status.PENDING
    if channel is Channel.EMAIL and wishes.digest_minute is not None and kind.may_wait:
        due = _held(kind, wishes, digest_at(now, wishes.digest_minute, wishes.zone))
        return Choice(channel, pending, None, due, f"digest:{user_id}:{channel}:{due}")
    if channel is Channel.EMAIL and crowd is not None:
        due = _held(kind, wishes, crowd.opens_at)
        return Choice(channel, pending, None, due, f"{crowd.name}:{channel}:{crowd.opens_at}")
    due = _held(kind, wishes, now)
    return Choice(channel, pending, None, due if due > now else None)


def _held(kind: Kind, wishes: Wishes, at: int) -> int:
    """Return the instant, or the end of the quiet hours that it lies in: held, not dropped.

    A critical message does not wait for that.
    """
    if kind.critical or wishes.quiet is None:
        return at
    return wishes.quiet.ends_at(at, wishes.zone) or at
