"""When a schedule is due: cron text and a time zone to slots (pure).

A cron whose minute or hour begins with a star is an interval: it runs by elapsed time, and its
slots are named by the UTC instant. All others run by the clock on the wall: once in an hour that
repeats, and at the end of the gap in an hour that is skipped (Debian's rule, kept by ``cronsim``;
croniter 7 and APScheduler 3 fire such a job twice in the repeated hour).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_LOOKS_BACK = tuple(timedelta(days=days) for days in (0.125, 8, 32, 367, 1_500))


@dataclass(frozen=True, slots=True)
class Slot:
    """One time at which a schedule fires."""

    at: int
    """Microseconds UTC."""
    name: str
    """``2026-11-23T09:00[Europe/Berlin]``, or for an interval ``2026-11-23T08:00Z``."""


def zone(time_zone: str) -> ZoneInfo:
    """Return an IANA time zone; raise ValueError for one that is not known."""
    try:
        return ZoneInfo(time_zone)
    except (KeyError, ValueError, OSError) as error:
        raise ValueError(f"{time_zone!r} is no IANA time zone, such as Europe/Berlin") from error


def is_interval(cron: str) -> bool:
    """Say whether a cron runs by elapsed time rather than by the clock on the wall."""
    minute, hour = cron.split()[:2]
    return minute.startswith("*") or hour.startswith("*")


def slots(cron: str, time_zone: str, after: int) -> Iterator[Slot]:
    """Yield the slots later than ``after`` (microseconds UTC), the earliest first.

    Raises ValueError for a cron that is not five fields that ``cronsim`` reads, or a zone that is
    not known. In the repeated hour ``cronsim`` can begin with a slot that has passed: left out.
    """
    found = zone(time_zone)
    if len(cron.split()) != 5:
        raise ValueError(f"a cron text has five fields: {cron!r}")
    start = (_EPOCH + after * _MICROSECOND).astimezone(found)
    try:
        moments = CronSim(cron, start)
    except CronSimError as error:
        raise ValueError(f"the cron text {cron!r} cannot be read: {error}") from error
    return _later(moments, is_interval(cron), time_zone, after)


def _later(
    moments: Iterator[datetime], interval: bool, time_zone: str, after: int
) -> Iterator[Slot]:
    last = after
    for moment in moments:
        at = (moment.astimezone(UTC) - _EPOCH) // _MICROSECOND
        if at <= last:
            continue
        last = at
        if interval:
            yield Slot(at, f"{moment.astimezone(UTC):%Y-%m-%dT%H:%M}Z")
        else:
            yield Slot(at, f"{moment:%Y-%m-%dT%H:%M}[{time_zone}]")


def due(cron: str, time_zone: str, after: int, until: int, limit: int) -> list[Slot]:
    """Return the slots later than ``after`` and not later than ``until``, at most ``limit``."""
    found: list[Slot] = []
    for slot in islice(slots(cron, time_zone, after), limit):
        if slot.at > until:
            break
        found.append(slot)
    return found


def latest(cron: str, time_zone: str, until: int) -> Slot | None:
    """Return the last slot that is not later than ``until``; None if there was none in four years.

    Looks back in growing steps, so that a frequent cron costs no more than a rare one.
    """
    for span in _LOOKS_BACK:
        last = None
        for slot in slots(cron, time_zone, until - span // _MICROSECOND):
            if slot.at > until:
                break
            last = slot
        if last is not None:
            return last
    return None


def following(cron: str, time_zone: str, after: int) -> int | None:
    """Return the instant of the next slot; None for a cron that never comes true again."""
    slot = next(slots(cron, time_zone, after), None)
    return None if slot is None else slot.at
