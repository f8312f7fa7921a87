"""Four weeks of facilitators' logs, on a clock of their own; the mails land in the sandbox.

Homeroom's rooms and its worker run in one more process, on a database beside the class's, so that
their clock (``HOMEROOM_TEST_CLOCK``) can be moved from one Monday to the next. What everybody does
is drawn by the seed, and what must come of it is counted from that by the rules alone.
"""

from __future__ import annotations

import asyncio
import random
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from pathlib import Path
from typing import Any, Literal
from zoneinfo import ZoneInfo

import msgspec

from homeroom.activity.api import Offering, Programme
from homeroom.clock import from_datetime
from homeroom.demo.check import Line
from homeroom.demo.child import Child, ChildFailed
from homeroom.http import log
from homeroom.http.server import run_loop
from homeroom.jobs.engines.sql import SqlEngine
from homeroom.jobs.upkeep import Upkeep
from homeroom.jobs.worker import Worker
from homeroom.outgoing import open_client
from homeroom.people import api as people
from homeroom.people.api import Person
from homeroom.sandbox.directory import generated_person
from homeroom.wiring import House, load_settings, open_house

FIRST_MONDAY = date(2026, 10, 19)  # Berlin's clocks change at the end of this week
WEEKS = 4
_PATIENCE_SECONDS = 120.0
_LONGEST_WAIT = 6 * 3_600 * 1_000_000
_AT_ONCE = 8
Habit = Literal["early", "tuesday", "friday", "late", "never"]
_HABITS: Sequence[Habit] = ("early", "tuesday", "friday", "late", "never")
_ODDS = (10, 60, 12, 8, 10)
_HOURS: Mapping[Habit, tuple[int, int]] = {
    "early": (0, 8),
    "tuesday": (1, 12),
    "friday": (4, 12),
    "late": (9, 12),
}
"""When a log comes: days after its Monday, and the hour."""
FAULTS: Sequence[Mapping[str, Any]] = (
    {"at": "rcpt", "answer": "450 4.2.0 try again later", "times": 3},
    {"at": "end", "answer": "cut", "times": 1},
)


@dataclass(frozen=True, slots=True)
class Plan:
    """One programme, and what everybody in it does."""

    id: str
    title: str
    time_zone: str
    managers: tuple[str, ...]
    facilitators: tuple[str, ...]
    habits: Mapping[tuple[str, int], Habit]
    """By facilitator and week, from 0."""


def plans(seed: int) -> list[Plan]:
    """Return two programmes with thirty facilitators."""
    chance = random.Random(f"{seed}:weeks")
    found = []
    for id, title, zone, managers, size in (
        ("data-lab", "Data lab", "Europe/Berlin", ("head-1", "head-2"), 18),
        ("night-school", "Night school", "America/New_York", ("head-3",), 12),
    ):
        names = tuple(f"{id}-{number:02}" for number in range(1, size + 1))
        habits = {
            (name, week): chance.choices(_HABITS, _ODDS)[0]
            for name in names
            for week in range(WEEKS)
        }
        found.append(Plan(id, title, zone, managers, names, habits))
    return found


def expected(plan: Plan) -> Counter[str]:
    """Return how many messages of each type the rules ask for."""
    found: Counter[str] = Counter()
    heads = len(plan.managers)
    warned: dict[str, set[int]] = {}
    for week in range(WEEKS):
        habits = {name: plan.habits[name, week] for name in plan.facilitators}
        found["log_reminder"] += sum(habit != "early" for habit in habits.values())
        behind = [name for name in habits if habits[name] in ("friday", "late", "never")]
        found["deadline_warning"] += len(behind)
        found["late_log"] += heads * sum(habit == "late" for habit in habits.values())
        missing = [name for name in habits if habits[name] in ("late", "never")]
        again = 0
        for name in plan.facilitators:
            missed = {
                past
                for past in range(week + 1)
                if plan.habits[name, past] == "never"
                or (past == week and plan.habits[name, past] == "late")
            }
            if len(missed) < 2:
                warned.pop(name, None)
                continue
            again += 1
            if warned.get(name) != missed:
                found["compliance_warning"] += heads
                found["compliance_copy"] += 1
            warned[name] = missed
        found["manager_report"] += heads * bool(missing or again)
    return found


def instant(plan: Plan, week: int, days: int, hour: int, minute: int = 0) -> int:
    """Return a wall time of a programme."""
    day = FIRST_MONDAY + timedelta(weeks=week, days=days)
    return from_datetime(datetime.combine(day, time(hour, minute), ZoneInfo(plan.time_zone)))


def steps(plan: Plan) -> list[tuple[int, str | None, int]]:
    """Return what happens when: an instant with a facilitator and a week, or a slot alone."""
    found: list[tuple[int, str | None, int]] = [
        (instant(plan, 0, 1, 10), None, 0),  # Tuesday's report on the week before, which is empty
        (instant(plan, WEEKS, 0, 9), None, WEEKS),
    ]
    for week in range(WEEKS):
        found += [
            (instant(plan, week, days, hour), None, week)
            for days, hour in ((0, 9), (3, 8), (8, 10))
        ]
        for number, name in enumerate(plan.facilitators):
            habit = plan.habits[name, week]
            if habit != "never":
                days, hour = _HOURS[habit]
                # a quarter of an hour apart, so that late ones are alerts of their own
                at = instant(plan, week, days, hour) + number * 15 * 60_000_000
                early = instant(plan, week, 0, 8, number) if habit == "early" else at
                found.append((early, name, week))
    return found


async def play(
    folder: Path, environment: Mapping[str, str], sandbox_url: str, seed: int
) -> list[Line]:
    """Let four weeks pass in a program of its own; return what was to be sent beside what was.

    Raises ``ChildFailed`` if the program fails.
    """
    start = datetime.combine(FIRST_MONDAY - timedelta(days=1), time(12), ZoneInfo("Europe/Berlin"))
    settings = {
        "HOMEROOM_DATA_DIR": str(folder),
        "HOMEROOM_TEST_CLOCK": start.isoformat(),
        "HOMEROOM_SMTP_URL": environment["HOMEROOM_SMTP_URL"],
        "HOMEROOM_MAIL_FROM": environment["HOMEROOM_MAIL_FROM"],
    }
    arguments = ["homeroom.demo.weeks", sandbox_url, str(seed)]
    child = Child("facilitators' program", arguments, settings, folder.parent / "weeks.log")
    await child.start(pipe=True)
    try:
        async with asyncio.timeout(_PATIENCE_SECONDS):
            said = await child.stdout.readline()
        return msgspec.json.decode(said, type=list[Line])
    except (TimeoutError, msgspec.DecodeError):
        raise ChildFailed(f"The four weeks did not come to their end:\n{child.tail()}") from None
    finally:
        await child.stop()


async def run(sandbox_url: str, seed: int) -> list[Line]:
    """Let four weeks pass here, with the settings of this process."""
    made, settings = plans(seed), load_settings()
    log.configure(settings.log_level, "json")  # to standard error: the other one is for the answer
    async with open_client(base_url=sandbox_url) as sandbox:
        for fault in FAULTS:
            (await sandbox.post("/control/mail/faults", json=fault)).raise_for_status()
        async with open_house(settings, migrated=True) as house:
            await _set_up(house, made, seed)
            await _pass(house, made)
            found, states = await _found(house)
        mails = (await sandbox.get("/control/summary")).raise_for_status().json()["mail"]
    return _compare(made, found, states, mails)


async def _set_up(house: House, made: Sequence[Plan], seed: int) -> None:
    async with house.db.write() as tx:
        for plan in made:
            for name in (*plan.managers, *plan.facilitators):
                person = generated_person(seed, name)
                await people.put(
                    tx,
                    Person(
                        name,
                        person["email"],
                        person["givenName"],
                        person["familyName"],
                        person["locale"],
                        plan.time_zone,
                    ),
                )
            programme = Programme(plan.id, plan.title, plan.time_zone, managers=plan.managers)
            await house.activity.programmes.put(tx, programme, "demo")
            last = FIRST_MONDAY + timedelta(weeks=WEEKS, days=-1)
            for name in plan.facilitators:
                offering = Offering(name, plan.id, f"Course {name}", name, FIRST_MONDAY, last)
                await house.activity.programmes.put_offering(tx, offering, "demo")


async def _pass(house: House, made: Sequence[Plan]) -> None:
    """Move the clock from event to event, and let the worker do what has come due at each."""
    engine = SqlEngine()
    worker = Worker(
        house.db, house.registry, engine, concurrency=_AT_ONCE, poll=timedelta(seconds=0.05)
    )
    upkeep = Upkeep(house.db, house.registry, engine)
    working = asyncio.create_task(worker.run())
    try:
        async with asyncio.timeout(_PATIENCE_SECONDS):
            for at, name, week in sorted(
                (step for plan in made for step in steps(plan)), key=lambda step: step[0]
            ):
                _move_to(house, at)
                if name is not None:
                    monday = FIRST_MONDAY + timedelta(weeks=week)
                    key = "{}-W{:02}".format(*monday.isocalendar()[:2])
                    async with house.db.write() as tx:
                        await house.activity.logs.write(tx, name, key, "submitted", {})
                await _drain(house, upkeep)
    finally:
        worker.stop()
        await working


def _move_to(house: House, at: int) -> None:
    behind = at - house.db.clock.now()
    if behind > 0:
        house.db.clock.advance(timedelta(microseconds=behind))


async def _drain(house: House, upkeep: Upkeep) -> None:
    """Fire what is due and wait until nothing is left to do for the next hours."""
    await upkeep.tick()
    while True:
        async with house.db.read() as tx:
            rows = await tx.fetch(
                "SELECT state, COUNT(*), MIN(run_at) FROM job"
                " WHERE state IN ('waiting', 'active', 'delayed') GROUP BY state"
            )
            now = tx.now
        states = {row[0]: row[2] for row in rows}
        if not states or (set(states) == {"delayed"} and states["delayed"] > now + _LONGEST_WAIT):
            return
        if set(states) == {"delayed"}:
            _move_to(house, states["delayed"] + 1)
            await upkeep.tick()
        await asyncio.sleep(0.01)


async def _found(house: House) -> tuple[Counter[str], Counter[str]]:
    async with house.db.read() as tx:
        types = await tx.fetch("SELECT type, COUNT(*) FROM notification GROUP BY type")
        states = await tx.fetch(
            "SELECT status, COUNT(*) FROM delivery WHERE channel = 'email' GROUP BY status"
        )
    return Counter(dict(types)), Counter(dict(states))


def _compare(
    made: Sequence[Plan], found: Counter[str], states: Counter[str], mails: Mapping[str, Any]
) -> list[Line]:
    wanted: Counter[str] = Counter()
    for plan in made:
        wanted += expected(plan)
    names = {
        "log_reminder": "reminders that a log is open",
        "deadline_warning": "warnings before the deadline",
        "late_log": "alerts of a late log",
        "manager_report": "weekly reports to managers",
        "compliance_warning": "warnings of logs missed again",
        "compliance_copy": "of these to the facilitator",
    }
    lines = [_line(title, wanted[type], found[type]) for type, title in names.items()]
    total = sum(wanted.values())
    lines.append(_line("mails in the sandbox's mailboxes", total, mails["accepted"]))
    lines.append(_line("mails that came twice", 0, len(mails["repeated"])))
    lines.append(_line("mails with something wrong in them", 0, mails["faulty"]))
    lines.append(_line("mails accepted, or cut off after their end", total, _sent(states)))
    return lines


def _sent(states: Counter[str]) -> int:
    return states["accepted"] + states["unknown"]


def _line(what: str, wanted: int, found: int) -> Line:
    return Line(what, f"{wanted:,}", f"{found:,}", wanted == found)


if __name__ == "__main__":
    sys.stdout.write(msgspec.json.encode(run_loop(run(sys.argv[1], int(sys.argv[2])))).decode())
    sys.stdout.write("\n")
