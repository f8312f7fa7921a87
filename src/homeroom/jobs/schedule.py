"""Slots of a cron expression in a time zone (pure).

A cron whose minute or hour begins with a star is an interval: it runs by elapsed time, and its
slots are named by the UTC instant. All others run by local time: once in an hour that repeats, and
at the end of the gap in an hour that is skipped (Debian's rule, which ``cronsim`` follows; croniter
7 and APScheduler 3 fire such a job twice in the repeated hour).
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
_LOOKBACK_SPANS = tuple(timedelta(days=days) for days in (0.125, 8, 32, 367, 1_500))


@dataclass(frozen=True, slots=True)
class ScheduleSlot:
    """One firing time of a schedule."""

    at: int
    """Microseconds UTC."""
    name: str
    """``2026-11-23T09:00[Europe/Berlin]``, or for an interval ``2026-11-23T08:00Z``."""


def parse_time_zone(time_zone: str) -> ZoneInfo:
    """Return an IANA time zone; raise ValueError for an unknown one."""
    try:
        return ZoneInfo(time_zone)
    except (KeyError, ValueError, OSError) as error:
        raise ValueError(f"{time_zone!r} is no IANA time zone, such as Europe/Berlin") from error


def is_interval(cron: str) -> bool:
    """Return whether a cron runs by elapsed time rather than by local time."""
    minute, hour = cron.split()[:2]
    return minute.startswith("*") or hour.startswith("*")


def iter_slots(cron: str, time_zone: str, after: int) -> Iterator[ScheduleSlot]:
    """Yield the slots later than ``after`` (microseconds UTC), the earliest first.

    Raises ValueError for a cron that is not five fields that ``cronsim`` reads, or an unknown
    zone. In the repeated hour ``cronsim`` can begin with a slot that has passed; it is left out.
    """
    zone = parse_time_zone(time_zone)
    if len(cron.split()) != 5:
        raise ValueError(f"a cron text has five fields: {cron!r}")
    start = (_EPOCH + after * _MICROSECOND).astimezone(zone)
    try:
        moments = CronSim(cron, start)
    except CronSimError as error:
        raise ValueError(f"the cron text {cron!r} cannot be read: {error}") from error
    return _slots_after(moments, is_interval(cron), time_zone, after)


def _slots_after(
    moments: Iterator[datetime], interval: bool, time_zone: str, after: int
) -> Iterator[ScheduleSlot]:
    last = after
    for moment in moments:
        at = (moment.astimezone(UTC) - _EPOCH) // _MICROSECOND
        if at <= last:
            continue
        last = at
        if interval:
            yield ScheduleSlot(at, f"{moment.astimezone(UTC):%Y-%m-%dT%H:%M}Z")
        else:
            yield ScheduleSlot(at, f"{moment:%Y-%m-%dT%H:%M}[{time_zone}]")


def due_slots(cron: str, time_zone: str, after: int, until: int, limit: int) -> list[ScheduleSlot]:
    """Return the slots after ``after`` and up to ``until``, at most ``limit``."""
    slots: list[ScheduleSlot] = []
    for slot in islice(iter_slots(cron, time_zone, after), limit):
        if slot.at > until:
            break
        slots.append(slot)
    return slots


def latest_slot(cron: str, time_zone: str, until: int) -> ScheduleSlot | None:
    """Return the last slot not later than ``until``; None if four years had none.

    The search goes back in growing spans, so that a frequent cron costs no more than a rare one.
    """
    for span in _LOOKBACK_SPANS:
        last = None
        for slot in iter_slots(cron, time_zone, until - span // _MICROSECOND):
            if slot.at > until:
                break
            last = slot
        if last is not None:
            return last
    return None


def next_slot_time(cron: str, time_zone: str, after: int) -> int | None:
    """Return the instant of the next slot; None for a cron that never matches again."""
    slot = next(iter_slots(cron, time_zone, after), None)
    return None if slot is None else slot.at
