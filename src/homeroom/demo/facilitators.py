"""Four weeks of facilitators' logs, on a clock of their own, with mails.

The application and its worker run in a process of their own, with another database, so that their
clock (``HOMEROOM_TEST_CLOCK``) can be moved from one Monday to the next. The seed decides the logs
of each facilitator, and the expected messages are counted from those by the rules alone.
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

import httpx
import msgspec

from homeroom.activity.api import Offering, Programme
from homeroom.bootstrap.application import Application, open_application
from homeroom.bootstrap.database import load_settings
from homeroom.demo.comparison import ComparisonLine, compare_numbers
from homeroom.demo.subprocesses import ChildProcess, ChildProcessFailed
from homeroom.http import logging_config
from homeroom.http.server import run_loop
from homeroom.http_client import open_http_client
from homeroom.instant import from_datetime
from homeroom.jobs.engine import SqlEngine
from homeroom.jobs.maintenance import JobMaintenance
from homeroom.jobs.worker import Worker
from homeroom.people import api as people
from homeroom.people.api import Person
from homeroom.sandbox.directory_and_assessment import generated_person

FIRST_MONDAY = date(2026, 10, 19)  # Berlin's clocks change at the end of this week
WEEK_COUNT = 4
_TIMEOUT_SECONDS = 120.0
_MAX_WAIT_US = 6 * 3_600 * 1_000_000
_CONCURRENCY = 8
SubmissionHabit = Literal["early", "tuesday", "friday", "late", "never"]
_HABITS: Sequence[SubmissionHabit] = ("early", "tuesday", "friday", "late", "never")
_ODDS = (10, 60, 12, 8, 10)
_SUBMISSION_TIMES: Mapping[SubmissionHabit, tuple[int, int]] = {
    "early": (0, 8),
    "tuesday": (1, 12),
    "friday": (4, 12),
    "late": (9, 12),
}
"""The time of a log: days after its Monday, and the hour."""
MAIL_FAULTS: Sequence[Mapping[str, Any]] = (
    {"at": "rcpt", "answer": "450 4.2.0 try again later", "times": 3},
    {"at": "end", "answer": "cut", "times": 1},
)


@dataclass(frozen=True, slots=True)
class FacilitatorPlan:
    """One programme with the habits of its facilitators."""

    id: str
    title: str
    time_zone: str
    managers: tuple[str, ...]
    facilitators: tuple[str, ...]
    habits: Mapping[tuple[str, int], SubmissionHabit]
    """By facilitator and week, from 0."""


def generate_plans(seed: int) -> list[FacilitatorPlan]:
    """Return two programmes with thirty facilitators."""
    rng = random.Random(f"{seed}:weeks")
    plans = []
    for id, title, zone, managers, size in (
        ("data-lab", "Data lab", "Europe/Berlin", ("head-1", "head-2"), 18),
        ("night-school", "Night school", "America/New_York", ("head-3",), 12),
    ):
        names = tuple(f"{id}-{number:02}" for number in range(1, size + 1))
        habits = {
            (name, week): rng.choices(_HABITS, _ODDS)[0]
            for name in names
            for week in range(WEEK_COUNT)
        }
        plans.append(FacilitatorPlan(id, title, zone, managers, names, habits))
    return plans


def expected_messages(plan: FacilitatorPlan) -> Counter[str]:
    """Return the number of messages of each type by the rules."""
    counts: Counter[str] = Counter()
    heads = len(plan.managers)
    warned: dict[str, set[int]] = {}
    for week in range(WEEK_COUNT):
        habits = {name: plan.habits[name, week] for name in plan.facilitators}
        counts["log_reminder"] += sum(habit != "early" for habit in habits.values())
        behind = [name for name in habits if habits[name] in ("friday", "late", "never")]
        counts["deadline_warning"] += len(behind)
        counts["late_log"] += heads * sum(habit == "late" for habit in habits.values())
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
                counts["compliance_warning"] += heads
                counts["compliance_copy"] += 1
            warned[name] = missed
        counts["manager_report"] += heads * bool(missing or again)
    return counts


def programme_instant(
    plan: FacilitatorPlan, week: int, days: int, hour: int, minute: int = 0
) -> int:
    """Return a local time of a programme in microseconds UTC."""
    day = FIRST_MONDAY + timedelta(weeks=week, days=days)
    return from_datetime(datetime.combine(day, time(hour, minute), ZoneInfo(plan.time_zone)))


def plan_timeline(plan: FacilitatorPlan) -> list[tuple[int, str | None, int]]:
    """Return the instants of logs (with facilitator and week) and of slots."""
    timeline: list[tuple[int, str | None, int]] = [
        (
            programme_instant(plan, 0, 1, 10),
            None,
            0,
        ),  # Tuesday's report on the week before, which is empty
        (programme_instant(plan, WEEK_COUNT, 0, 9), None, WEEK_COUNT),
    ]
    for week in range(WEEK_COUNT):
        timeline += [
            (programme_instant(plan, week, days, hour), None, week)
            for days, hour in ((0, 9), (3, 8), (8, 10))
        ]
        for number, name in enumerate(plan.facilitators):
            habit = plan.habits[name, week]
            if habit != "never":
                days, hour = _SUBMISSION_TIMES[habit]
                # a quarter of an hour apart, so that each late log is an alert of its own
                at = programme_instant(plan, week, days, hour) + number * 15 * 60_000_000
                early = programme_instant(plan, week, 0, 8, number) if habit == "early" else at
                timeline.append((early, name, week))
    return timeline


async def play_weeks(
    folder: Path, environment: Mapping[str, str], sandbox_url: str, seed: int
) -> list[ComparisonLine]:
    """Play four weeks in a process of its own and compare the messages.

    Raises ``ChildProcessFailed`` if the process fails.
    """
    start = datetime.combine(FIRST_MONDAY - timedelta(days=1), time(12), ZoneInfo("Europe/Berlin"))
    settings = {
        "HOMEROOM_DATA_DIR": str(folder),
        "HOMEROOM_TEST_CLOCK": start.isoformat(),
        "HOMEROOM_SMTP_URL": environment["HOMEROOM_SMTP_URL"],
        "HOMEROOM_MAIL_FROM": environment["HOMEROOM_MAIL_FROM"],
    }
    arguments = ["homeroom.demo.facilitators", sandbox_url, str(seed)]
    child = ChildProcess("facilitators' process", arguments, settings, folder.parent / "weeks.log")
    await child.start(pipe=True)
    try:
        async with asyncio.timeout(_TIMEOUT_SECONDS):
            line = await child.stdout.readline()
        return msgspec.json.decode(line, type=list[ComparisonLine])
    except (TimeoutError, msgspec.DecodeError):
        raise ChildProcessFailed(f"The four weeks did not finish:\n{child.tail()}") from None
    finally:
        await child.stop()


async def run_weeks(sandbox_url: str, seed: int) -> list[ComparisonLine]:
    """Play four weeks with the settings of this process."""
    plans, settings = generate_plans(seed), load_settings()
    # to standard error: standard output is for the result
    logging_config.configure_logging(settings.log_level, "json")
    async with open_http_client(base_url=sandbox_url) as sandbox:
        before = await _count_mails(sandbox)  # those to the learners of the class
        for fault in MAIL_FAULTS:
            (await sandbox.post("/control/mail/faults", json=fault)).raise_for_status()
        async with open_application(settings, migrated=True) as application:
            await _create_programmes(application, plans, seed)
            await _run_timeline(application, plans)
            counts, states = await _count_messages(application)
        mails = await _count_mails(sandbox)
    mails = {**mails, "accepted": mails["accepted"] - before["accepted"]}
    return _compare_messages(plans, counts, states, mails)


async def _count_mails(sandbox: httpx.AsyncClient) -> dict[str, Any]:
    """Return the counts of the sandbox's mail server."""
    summary = (await sandbox.get("/control/summary")).raise_for_status().json()
    return dict(summary["mail"])


async def _create_programmes(
    application: Application, plans: Sequence[FacilitatorPlan], seed: int
) -> None:
    async with application.db.write() as tx:
        for plan in plans:
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
            await application.activity.programmes.put(tx, programme, "demo")
            last = FIRST_MONDAY + timedelta(weeks=WEEK_COUNT, days=-1)
            for name in plan.facilitators:
                offering = Offering(name, plan.id, f"Course {name}", name, FIRST_MONDAY, last)
                await application.activity.programmes.put_offering(tx, offering, "demo")


async def _run_timeline(application: Application, plans: Sequence[FacilitatorPlan]) -> None:
    """Move the clock from instant to instant, and run the due jobs at each."""
    engine = SqlEngine()
    worker = Worker(
        application.db,
        application.registry,
        engine,
        concurrency=_CONCURRENCY,
        poll=timedelta(seconds=0.05),
    )
    maintenance = JobMaintenance(application.db, application.registry, engine)
    working = asyncio.create_task(worker.run())
    try:
        async with asyncio.timeout(_TIMEOUT_SECONDS):
            for at, name, week in sorted(
                (step for plan in plans for step in plan_timeline(plan)), key=lambda step: step[0]
            ):
                _advance_clock(application, at)
                if name is not None:
                    monday = FIRST_MONDAY + timedelta(weeks=week)
                    key = "{}-W{:02}".format(*monday.isocalendar()[:2])
                    async with application.db.write() as tx:
                        await application.activity.logs.write(tx, name, key, "submitted", {})
                await _run_due_jobs(application, maintenance)
    finally:
        worker.stop()
        await working


def _advance_clock(application: Application, at: int) -> None:
    ahead = at - application.db.clock.now()
    if ahead > 0:
        application.db.clock.advance(timedelta(microseconds=ahead))


async def _run_due_jobs(application: Application, maintenance: JobMaintenance) -> None:
    """Fire due slots and wait until no job is due for the next hours."""
    await maintenance.tick()
    while True:
        async with application.db.read() as tx:
            rows = await tx.fetch(
                "SELECT state, MIN(run_at) FROM job"
                " WHERE state IN ('waiting', 'active', 'delayed') GROUP BY state"
            )
            now = tx.now
        states: dict[str, int] = dict(rows)
        if not states or (set(states) == {"delayed"} and states["delayed"] > now + _MAX_WAIT_US):
            return
        if set(states) == {"delayed"}:
            _advance_clock(application, states["delayed"] + 1)
            await maintenance.tick()
        await asyncio.sleep(0.01)


async def _count_messages(application: Application) -> tuple[Counter[str], Counter[str]]:
    async with application.db.read() as tx:
        types = await tx.fetch("SELECT type, COUNT(*) FROM notification GROUP BY type")
        states = await tx.fetch(
            "SELECT status, COUNT(*) FROM delivery WHERE channel = 'email' GROUP BY status"
        )
    return Counter(dict(types)), Counter(dict(states))


def _compare_messages(
    plans: Sequence[FacilitatorPlan],
    counts: Counter[str],
    states: Counter[str],
    mails: Mapping[str, Any],
) -> list[ComparisonLine]:
    expected: Counter[str] = Counter()
    for plan in plans:
        expected += expected_messages(plan)
    names = {
        "log_reminder": "reminders that a log is open",
        "deadline_warning": "warnings before the deadline",
        "late_log": "alerts of a late log",
        "manager_report": "weekly reports to managers",
        "compliance_warning": "warnings of logs missed again",
        "compliance_copy": "of these to the facilitator",
    }
    lines = [compare_numbers(title, expected[type], counts[type]) for type, title in names.items()]
    total = sum(expected.values())
    lines.append(compare_numbers("mails in the sandbox's mailboxes", total, mails["accepted"]))
    lines.append(compare_numbers("mails received twice", 0, len(mails["repeated"])))
    lines.append(compare_numbers("mails with faults", 0, mails["faulty"]))
    lines.append(
        compare_numbers("mails accepted, or cut off after their end", total, _count_sent(states))
    )
    return lines


def _count_sent(states: Counter[str]) -> int:
    return states["accepted"] + states["unknown"]


if __name__ == "__main__":
    sys.stdout.write(
        msgspec.json.encode(run_loop(run_weeks(sys.argv[1], int(sys.argv[2])))).decode()
    )
    sys.stdout.write("\n")
