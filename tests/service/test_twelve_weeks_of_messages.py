"""Twelve weeks, forty facilitators, three time zones: exactly the messages of the tables below.

The tables were written by hand from the rules, week by week. Each facilitator submits on Tuesday at
noon of the programme: after Monday's reminder, before Thursday's warning. Exceptions are listed.

Berlin changes its clocks on Sunday 2026-10-25, in W43: its deadline of W43 is a week of 169 hours.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from typing import Literal

import pytest
from tests.support.activity_school import ActivitySchool, at, build, local

from homeroom.clock import Clock
from homeroom.db.sqlite.database import SqliteDatabase

pytestmark = [pytest.mark.anyio, pytest.mark.service]

ZONES = {"berlin": "Europe/Berlin", "kolkata": "Asia/Kolkata", "bogota": "America/Bogota"}
MANAGERS = {"berlin": ("mb1", "mb2"), "kolkata": ("mk",), "bogota": ("mg",)}
PEOPLE = {
    "berlin": [f"b{number:02}" for number in range(1, 17)],
    "kolkata": [f"k{number:02}" for number in range(1, 15)],
    "bogota": [f"g{number:02}" for number in range(1, 11)],
}
MONDAYS = {f"2026-W{36 + index}": date(2026, 8, 31) + timedelta(weeks=index) for index in range(12)}
STARTS = {
    "b10": date(2026, 9, 11),  # a Friday: no log is due for W37
    "b11": date(2026, 9, 17),  # a Thursday: a log is due for W38
}
ENDS = date(2026, 11, 22)  # the Sunday of W47

# The logs that are not submitted on Tuesday at noon. Days count from the week's Monday.
EARLY = (0, "08:00:00")  # before Monday's reminder
FRIDAY = (4, "12:00:00")
LAST_SECOND = (6, "23:59:59")
MIDNIGHT = (7, "00:00:00")  # the deadline is exclusive: this one is late
AFTER_THE_REPORT = (9, "12:00:00")
TWO_WEEKS_LATER = (17, "12:00:00")
NEVER: Literal["never"] = "never"
ONLY_A_DRAFT: Literal["draft"] = "draft"
When = tuple[int, str] | Literal["never", "draft"]
LOGS: dict[tuple[str, str], When] = {
    ("b01-b", "2026-W39"): FRIDAY,  # the second offering of b01; the first is in on Tuesday
    ("b02", "2026-W37"): NEVER,
    ("b02", "2026-W39"): NEVER,
    ("b03", "2026-W38"): EARLY,
    ("b04", "2026-W43"): LAST_SECOND,
    ("b05", "2026-W43"): MIDNIGHT,
    ("b06", "2026-W41"): FRIDAY,
    ("b08", "2026-W44"): NEVER,
    ("b08", "2026-W45"): NEVER,
    ("b08", "2026-W46"): NEVER,
    ("b09", "2026-W44"): TWO_WEEKS_LATER,  # after the report that warned of it
    ("b09", "2026-W45"): NEVER,
    ("b11", "2026-W38"): FRIDAY,
    ("b12", "2026-W42"): ONLY_A_DRAFT,
    ("b13", "2026-W36"): NEVER,
    ("b13", "2026-W38"): NEVER,
    ("b14", "2026-W40"): AFTER_THE_REPORT,
    ("b15", "2026-W45"): FRIDAY,
    ("k01", "2026-W40"): LAST_SECOND,
    ("k02", "2026-W40"): MIDNIGHT,
    ("k03", "2026-W41"): NEVER,
    ("k03", "2026-W42"): NEVER,
    ("k03", "2026-W43"): NEVER,
    ("k03", "2026-W44"): NEVER,
    ("k04", "2026-W47"): EARLY,
    ("g01", "2026-W41"): NEVER,
    ("g01", "2026-W42"): NEVER,
    ("g02", "2026-W36"): NEVER,
    ("g02", "2026-W37"): NEVER,
}
LEAVE = [
    ("berlin", "b07", date(2026, 9, 28), date(2026, 10, 11)),  # W40 and W41
    ("berlin", "b13", date(2026, 9, 7), date(2026, 9, 11)),  # the working days of W37
    ("berlin", "b15", date(2026, 11, 2), date(2026, 11, 4)),  # three days of W45: a log is due
    ("kolkata", None, date(2026, 11, 9), date(2026, 11, 13)),  # a holiday of all: W46
]
CLOSES = ("bogota", date(2026, 10, 19), "2026-10-16T12:00")  # before W43; closed on a Friday

# The messages that follow from the rules. "all" are all of the programme, less those after "but".
REMINDED = {
    "berlin": {
        "2026-W36": "all but b10 b11",
        "2026-W37": "all but b10 b11 b13",
        "2026-W38": "all but b03",
        "2026-W39": "all",
        "2026-W40": "all but b07",
        "2026-W41": "all but b07",
        "2026-W42": "all",
        "2026-W43": "all",
        "2026-W44": "all",
        "2026-W45": "all",
        "2026-W46": "all",
        "2026-W47": "all",
    },
    "kolkata": {
        "2026-W36": "all",
        "2026-W37": "all",
        "2026-W38": "all",
        "2026-W39": "all",
        "2026-W40": "all",
        "2026-W41": "all",
        "2026-W42": "all",
        "2026-W43": "all",
        "2026-W44": "all",
        "2026-W45": "all",
        "2026-W46": "",
        "2026-W47": "all but k04",
    },
    "bogota": {
        "2026-W36": "all",
        "2026-W37": "all",
        "2026-W38": "all",
        "2026-W39": "all",
        "2026-W40": "all",
        "2026-W41": "all",
        "2026-W42": "all",
    },
}
WARNED = {
    "berlin": {
        "2026-W36": "b13",
        "2026-W37": "b02",
        "2026-W38": "b11 b13",
        "2026-W39": "b01 b02",
        "2026-W40": "b14",
        "2026-W41": "b06",
        "2026-W42": "b12",
        "2026-W43": "b04 b05",
        "2026-W44": "b08 b09",
        "2026-W45": "b08 b09 b15",
        "2026-W46": "b08",
    },
    "kolkata": {
        "2026-W40": "k01 k02",
        "2026-W41": "k03",
        "2026-W42": "k03",
        "2026-W43": "k03",
        "2026-W44": "k03",
    },
    "bogota": {"2026-W36": "g02", "2026-W37": "g02", "2026-W41": "g01", "2026-W42": "g01"},
}
# The weeks whose Tuesday has a report, with the reason.
REPORTED = {
    "berlin": {
        "2026-W36": "b13 is missing",
        "2026-W37": "b02 is missing",
        "2026-W38": "b13 is missing, for the second time of two",
        "2026-W39": "b02 is missing, for the second time; b13 continues",
        "2026-W40": "b14 is missing until Wednesday; b02 continues",
        # W41: b14 is submitted by now, b02 has one missed week in the last four: no report
        "2026-W42": "b12 has a draft, which is missing",
        "2026-W43": "b05 was late by no time at all",
        "2026-W44": "b08 and b09 are missing",
        "2026-W45": "b08 and b09 are missing again",
        "2026-W46": "b08 is missing for the third time",
        "2026-W47": "b08 continues",
    },
    "kolkata": {
        "2026-W40": "k02 was late",
        "2026-W41": "k03 is missing",
        "2026-W42": "k03 is missing again",
        "2026-W43": "k03 is missing again",
        "2026-W44": "k03 is missing again",
        "2026-W45": "k03 has missed W42, W43 and W44 of the four",
        "2026-W46": "k03 has missed W43 and W44 of three that were expected",
        # W47: only W44 is in the window
    },
    "bogota": {
        "2026-W36": "g02 is missing",
        "2026-W37": "g02 is missing again",
        "2026-W38": "g02 continues",
        "2026-W39": "g02 continues",
        # W40: only W37 of g02 is in the window
        "2026-W41": "g01 is missing",
        # W42: the programme is closed on the Tuesday of its report
    },
}
# A warning is sent if the set of missed weeks differs from the last warning's.
COMPLIANCE = {
    "berlin": {
        "2026-W38": "b13",  # W36, W38; W37 was leave and counts neither way
        "2026-W39": "b02",  # W37, W39
        "2026-W45": "b08 b09",  # W44, W45
        "2026-W46": "b08",  # and W46; b09 has submitted W44 by now
    },
    "kolkata": {
        "2026-W42": "k03",  # W41, W42
        "2026-W43": "k03",  # W41, W42, W43
        "2026-W44": "k03",  # W41, W42, W43, W44
        "2026-W45": "k03",  # W42, W43, W44
        "2026-W46": "k03",  # W43, W44
    },
    "bogota": {"2026-W37": "g02"},  # W36, W37
}
LATE = {
    "berlin": {"b05": "2026-W43", "b09": "2026-W44", "b14": "2026-W40"},
    "kolkata": {"k02": "2026-W40"},
    "bogota": {},
}


def select_people(text: str, programme: str) -> list[str]:
    """Return the people of a text such as "all but a b" or "a b"."""
    if not text.startswith("all"):
        return text.split()
    left_out = text.removeprefix("all").removeprefix(" but").split()
    return [name for name in PEOPLE[programme] if name not in left_out]


def expected_keys() -> Iterator[str]:
    """Yield the keys of the messages in the tables."""
    for programme, managers in MANAGERS.items():
        for week, text in REMINDED[programme].items():
            for user in select_people(text, programme):
                yield f"log_reminder:{programme}:{week}:{user}"
        for week, text in WARNED[programme].items():
            for user in select_people(text, programme):
                yield f"deadline_warning:{programme}:{week}:{user}"
        for week in REPORTED[programme]:
            for manager in managers:
                yield f"manager_report:{programme}:{week}:{manager}"
        for week, text in COMPLIANCE[programme].items():
            for user in select_people(text, programme):
                for recipient in (*managers, user):
                    yield f"compliance:{programme}:{user}:{week}:{recipient}"
        for user, week in LATE[programme].items():
            for manager in managers:
                yield f"late_log:{user}/{week}:{manager}"


@dataclass(frozen=True)
class Event:
    """An event at an instant: a log, a slot, or the end of a programme."""

    at: int
    programme: str
    offering: str | None = None
    week: str = ""
    draft: bool = False
    closes: bool = False


def events() -> list[Event]:
    found = []
    for programme, zone in ZONES.items():
        for week, monday in MONDAYS.items():
            for day, clock in ((0, "09:00:01"), (3, "08:00:01"), (8, "10:00:01")):
                found.append(Event(local_instant(monday, day, clock, zone), programme))
            for offering in offerings(programme):
                when = LOGS.get((offering, week), (1, "12:00:00"))
                draft = when == ONLY_A_DRAFT
                if draft:
                    when = FRIDAY
                if isinstance(when, tuple):
                    moment = local_instant(monday, *when, zone)
                    found.append(Event(moment, programme, offering, week, draft))
    programme, _, said = CLOSES
    found.append(Event(local(said, ZONES[programme]), programme, closes=True))
    return sorted(found, key=lambda event: event.at)


def local_instant(monday: date, days: int, clock: str, zone: str) -> int:
    day = datetime.combine(monday + timedelta(days=days), time.fromisoformat(clock))
    return local(day.isoformat(), zone)


def offerings(programme: str) -> list[str]:
    extra = ["b01-b"] if programme == "berlin" else []
    return PEOPLE[programme] + extra


def is_outstanding(event: Event) -> bool:
    """Return False for logs that are not written: before the start, on leave, after the end."""
    monday = MONDAYS[event.week]
    start = STARTS.get(event.offering or "", date.min)
    if start > monday + timedelta(days=3):
        return False
    if event.programme == "bogota" and monday >= CLOSES[1]:
        return False
    return not any(
        programme == event.programme
        and user in (None, event.offering)
        and first <= monday
        and last >= monday + timedelta(days=4)
        for programme, user, first, last in LEAVE
    )


@pytest.fixture
def clock() -> Clock:
    clock = Clock()
    at(clock, local("2026-08-30T09:00"))
    return clock


async def set_up(school: ActivitySchool) -> None:
    for programme, zone in ZONES.items():
        await school.programme(programme, time_zone=zone, managers=MANAGERS[programme])
        for manager in MANAGERS[programme]:
            await school.person(manager)
        for offering in offerings(programme):
            user = offering.removesuffix("-b")
            await school.person(user)
            starts = STARTS.get(user, date(2026, 8, 31))
            await school.offering(offering, user, programme, starts, ENDS)
    for programme, user, first, last in LEAVE:
        reason = "holiday" if user is None else "leave"
        await school.exempt(programme, first, last, user_id=user, reason=reason)


async def test_twelve_weeks_send_exactly_the_messages_of_the_tables(
    db: SqliteDatabase, clock: Clock
) -> None:
    assert sum(map(len, PEOPLE.values())) == 40
    school = build(db, clock, chunk=7)
    await set_up(school)
    logs: dict[str, str] = {}
    for event in events():
        school.move_to(event.at)
        if event.closes:
            await school.programme(
                event.programme,
                time_zone=ZONES[event.programme],
                managers=MANAGERS[event.programme],
                closed_on=CLOSES[1],
            )
        elif event.offering is None:
            await school.work()
        elif is_outstanding(event):
            status = "draft" if event.draft else "submitted"
            log = await school.log(event.offering, event.week, status)
            logs[log.id] = f"{event.offering}/{event.week}"
    found = []
    for key in await school.keys():
        type, log_id, *rest = key.split(":")
        named = [type, logs[log_id], *rest] if type == "late_log" else [type, log_id, *rest]
        found.append(":".join(named))
    wanted = sorted(expected_keys())
    assert sorted(found) == wanted
    assert len(set(wanted)) == len(wanted)
