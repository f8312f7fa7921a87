"""Lesson plans and ``kill -9``: 30 kills in 40 lessons, or more; and two workers at once (issue 4).

What a power cut leaves is a lesson that was asked for and is not stored; that one may be asked for
again. A lesson that is stored may not, which the model's server itself looks up at every request.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from tests.effort import EFFORT
from tests.servers.database import database_at
from tests.service.plan_house import PlanHouse, curriculum, plan_house
from tests.service.scripted_model import ScriptedModel, scripted_model

from homeroom.db.database import Database
from homeroom.lessonplans.api import RuleBased
from homeroom.lessonplans.check import check_plan

pytestmark = [pytest.mark.anyio, pytest.mark.fault, pytest.mark.xdist_group("fault")]
KILLS = 30 * EFFORT
MODULES, LESSONS = 4 * EFFORT, 10
PATIENCE_SECONDS = 240 * EFFORT
"""Some thirty seconds are usual. A claim on its way to the server as its worker was killed may be
committed after ``end_leases`` has looked: then its lease of half a minute has to end by itself."""
SEED = 20261125


class Workers:
    """The process that forks workers, and what it says."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.pid: int | None = None

    async def _say(self, text: str) -> str:
        assert self._process.stdin is not None
        self._process.stdin.write(text.encode() + b"\n")
        await self._process.stdin.drain()
        return await self.heard()

    async def heard(self) -> str:
        assert self._process.stdout is not None
        return (await self._process.stdout.readline()).decode().strip()

    async def fork(self) -> int:
        self.pid = int((await self._say("fork")).removeprefix("born "))
        return self.pid

    async def buried(self, pid: int) -> None:
        assert await self._say(f"wait {pid}") == f"dead {pid}"


@asynccontextmanager
async def workers_on(place: Path | str, url: str) -> AsyncIterator[Workers]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.fault.plan_worker",
        str(place),
        url,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    workers = Workers(process)
    assert await workers.heard() == "ready"
    try:
        yield workers
    finally:
        assert process.stdin is not None
        process.stdin.close()
        await process.wait()


class Executioner:
    """Kills the worker at every point of a list of (request, when) and checks each request."""

    def __init__(self, model: ScriptedModel, place: Path | str, dice: random.Random) -> None:
        self._model, self._place, self._dice = model, place, dice
        self.asked_though_stored: list[str] = []
        self.victim: int | None = None
        self.killed = asyncio.Event()
        model.before_answer = self.before
        model.after_answer = self.after
        self._mode, self._from = "", 0

    def aim(self, pid: int, mode: str) -> None:
        """Kill this worker over the second lesson that it asks for."""
        self.victim, self._mode = pid, mode
        self._from = len(self._model.requests) + 2
        self.killed.clear()

    def before(self, number: int) -> None:
        """Look up whether the lesson is stored; kill while it is in flight, if that is meant."""
        question = self._model.questions[-1]
        with ThreadPoolExecutor(1) as thread:  # the model's server answers nobody meanwhile
            looking = thread.submit(asyncio.run, self._written_at(question["lesson"]["number"]))
            written_at = looking.result()
        if written_at is not None:
            self.asked_though_stored.append(question["lesson"]["number"])
        if self._mode == "in flight" and number >= self._from:
            self._kill()

    async def _written_at(self, lesson: str) -> int | None:
        db = database_at(self._place)
        await db.open()
        try:
            async with db.read() as tx:
                [[written_at]] = await tx.fetch(
                    "SELECT written_at FROM lesson_plan_lesson WHERE slot LIKE ?",
                    (f'%"number":"{lesson}"%',),
                )
        finally:
            await db.close()
        found: int | None = written_at
        return found

    def after(self, number: int) -> None:
        """Kill once the answer is on its way, or a moment later: before or after the commit."""
        if number < self._from:
            return
        if self._mode == "answered":
            self._kill()
        elif self._mode == "a moment later":
            asyncio.get_running_loop().call_later(self._dice.uniform(0, 0.02), self._kill)

    def _kill(self) -> None:
        if self.victim is not None:
            os.kill(self.victim, signal.SIGKILL)
            self.victim = None
            self.killed.set()


async def test_kills_repeat_at_most_one_call_each_and_no_stored_lesson(
    db: Database, database: Path | str
) -> None:
    house = plan_house(db, RuleBased())  # this process only queues and reads
    plan_id = await house.started(curriculum(MODULES, LESSONS))
    async with (
        patience(db),
        scripted_model() as model,
        workers_on(database, model.url) as workers,
    ):
        killer = Executioner(model, database, random.Random(SEED))
        for number in range(KILLS):
            pid = await workers.fork()
            killer.aim(pid, ("in flight", "answered", "a moment later")[number % 3])
            await killer.killed.wait()
            await workers.buried(pid)
            await end_leases(db)
        assert (await house.status(plan_id)).status == "in_progress", "kills met work to do"
        killer.aim(await workers.fork(), "never")
        await until_complete(house, plan_id)
    assert killer.asked_though_stored == []
    lessons = MODULES * LESSONS
    assert len(model.asked_for) == lessons
    assert lessons < len(model.requests) <= lessons + KILLS
    calls = await house.calls(plan_id)
    assert len(model.requests) <= len(calls) <= len(model.requests) + KILLS
    assert sum(call.outcome == "answered" for call in calls) >= lessons
    plan = await house.plan(plan_id)
    written = [(each.slot, each.body) for each in plan.lessons if each.body is not None]
    assert len(written) == lessons
    assert check_plan(plan.curriculum, written) == []
    assert {lesson.revision for lesson in plan.lessons} == {1}, "each was stored once"


async def test_two_workers_never_write_one_lesson_twice(db: Database, database: Path | str) -> None:
    house = plan_house(db, RuleBased())
    plans = [await house.started(curriculum(2, 5, title=f"Plan {number}")) for number in range(6)]
    async with (
        patience(db),
        scripted_model() as model,
        workers_on(database, model.url) as workers,
    ):
        await workers.fork()
        await workers.fork()
        for plan_id in plans:
            await until_complete(house, plan_id)
    assert len(model.requests) == 6 * 10
    asked = [(each["course"], each["lesson"]["number"]) for each in model.questions]
    assert len(set(asked)) == len(asked)
    async with db.read() as tx:
        rows = await tx.fetch("SELECT DISTINCT worker FROM job_attempt WHERE outcome = 'done'")
    assert len(rows) == 2, "both had work"


@asynccontextmanager
async def patience(db: Database) -> AsyncIterator[None]:
    """Give a test so long, and say of one that took longer what its jobs were doing."""
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            yield
    except TimeoutError as error:
        async with db.read() as tx:
            jobs = await tx.fetch(
                "SELECT id, state, attempts, last_error, worker, (lease_until - ?) / 1000000,"
                " (run_at - ?) / 1000000 FROM job ORDER BY seq",
                (tx.now, tx.now),
            )
        raise AssertionError(f"not done after {PATIENCE_SECONDS} s: {jobs}") from error


async def end_leases(db: Database) -> None:
    """Let the time pass that a dead worker's lease lasts: nothing else can have it meanwhile."""
    async with db.write() as tx:
        await tx.execute("UPDATE job SET lease_until = 1 WHERE state = 'active'")


async def until_complete(house: PlanHouse, plan_id: str) -> None:
    """Wait for other processes' commits, of which no hint comes here."""
    while True:
        if (await house.status(plan_id)).status == "complete":
            return
        await asyncio.sleep(0.05)
