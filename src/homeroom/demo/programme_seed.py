"""Programmes of a seeded school, with past weeks.

Logs are on time, late or missing. The clock is moved to when each log is handed in, so that its
week counts as it would have then.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta

from homeroom.activity.api import Exemption, Offering, Programme
from homeroom.bootstrap.application import Application
from homeroom.clock import Clock
from homeroom.db.tx import Tx
from homeroom.demo.example_school import (
    MANAGER,
    PROGRAMME,
    PROGRAMME_TITLE,
    PROGRAMME_WEEKS,
    example_log,
    week_key,
)
from homeroom.instant import to_datetime

PAST_WEEKS = 5
"""Weeks of a programme before the current one."""
FACILITATORS_PER_PROGRAMME = 20
_ACTOR = "seed"


@dataclass(frozen=True, slots=True)
class _HandIn:
    """A log, and when it is handed in."""

    at: datetime
    place: int
    """The facilitator's place in the programme."""
    held_on: datetime


async def add_programmes(application: Application, facilitators: Sequence[str]) -> tuple[int, int]:
    """Add programmes in their sixth week; return how many, and how many logs.

    Each third facilitator has handed in this week's log; the others owe theirs.
    """
    groups = [
        facilitators[start : start + FACILITATORS_PER_PROGRAMME]
        for start in range(0, len(facilitators), FACILITATORS_PER_PROGRAMME)
    ]
    logs = 0
    for number, members in enumerate(groups, start=1):
        logs += await _add_programme(application, number, members)
    return len(groups), logs


async def _add_programme(application: Application, number: int, members: Sequence[str]) -> int:
    activity, db, clock = application.activity, application.db, application.db.clock
    id, title = PROGRAMME, PROGRAMME_TITLE
    if number > 1:
        id, title = f"{PROGRAMME}-{number}", f"{PROGRAMME_TITLE} {number}"
    now = to_datetime(clock.now())
    monday = datetime.combine(now.date() - timedelta(days=now.weekday()), time(8), UTC)
    begins = monday - timedelta(weeks=PAST_WEEKS)
    async with db.write() as tx:  # now: its schedules have no slots before
        programme = Programme(id, title, "UTC", managers=(MANAGER,))
        await activity.programmes.put(tx, programme, _ACTOR)
    offerings = [
        Offering(
            f"of-{user_id}",
            id,
            f"Data skills, group {place}",
            user_id,
            begins.date(),
            begins.date() + timedelta(weeks=PROGRAMME_WEEKS),
        )
        for place, user_id in enumerate(members, start=1)
    ]
    with _clock_at(clock, begins):
        async with db.write() as tx:
            await activity.programmes.put_offerings(tx, id, offerings, _ACTOR)
            await _add_leave(application, tx, id, members, begins)
    logs = _past_logs(begins, len(members), now)
    logs += [_HandIn(now, place, now) for place in range(2, len(members), 3)]
    for log in logs:
        content = example_log(log.held_on.date(), present=12 - log.place % 5)
        with _clock_at(clock, log.at):
            async with db.write() as tx:
                await activity.logs.write(
                    tx, offerings[log.place].id, week_key(log.held_on.date()), "submitted", content
                )
    async with db.write() as tx:  # the weeks that ended since then
        await activity.programmes.put_offerings(tx, id, offerings, _ACTOR)
    return len(logs)


async def _add_leave(
    application: Application, tx: Tx, id: str, members: Sequence[str], begins: datetime
) -> None:
    """Exempt the second facilitator from the second week."""
    if len(members) < 2:
        return
    start = begins.date() + timedelta(weeks=1)
    leave = Exemption("", start, start + timedelta(days=6), "leave", user_id=members[1])
    await application.activity.programmes.add_exemption(tx, id, leave, None, _ACTOR)


def _past_logs(begins: datetime, members: int, now: datetime) -> list[_HandIn]:
    """Return the logs of past weeks in the order in which they are handed in.

    Of seven, five are handed in from Wednesday to Friday, one on the next Monday, one never.
    """
    logs = []
    for week in range(PAST_WEEKS):
        for place in range(members):
            turn = (place + 2 * week) % 7
            if turn == 0 or (place, week) == (1, 1):
                continue
            monday = begins + timedelta(weeks=week)
            held_on = monday + timedelta(days=1)
            days = 7 if turn == 6 else 2 + turn % 3
            at = monday + timedelta(days=days, hours=2, minutes=7 * place)
            if at < now:
                logs.append(_HandIn(at, place, held_on))
    return sorted(logs, key=lambda log: (log.at, log.place))


@contextmanager
def _clock_at(clock: Clock, at: datetime) -> Iterator[None]:
    """Set the clock to an instant, for a block."""
    away = to_datetime(clock.now()) - at
    clock.advance(-away)
    try:
        yield
    finally:
        clock.advance(away)
