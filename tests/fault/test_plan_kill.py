"""Lesson plans under ``kill -9``: at least 30 kills in 40 lessons, and two workers at once.

A kill may leave a lesson that was requested and not stored; it may be requested again. A stored
lesson may not: the model server checks that in the database at every request.
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
from tests.support.database import database_at
from tests.support.effort import EFFORT
from tests.support.plan_application import PlanApplication, build_plan_application, curriculum
from tests.support.scripted_model import ScriptedModel, scripted_model

from homeroom.db.database import Database
from homeroom.lessonplans.api import RuleBasedGenerator
from homeroom.lessonplans.lesson import check_plan

pytestmark = [pytest.mark.anyio, pytest.mark.fault, pytest.mark.xdist_group("fault")]
KILLS = 30 * EFFORT
MODULES, LESSONS = 4 * EFFORT, 10
TIMEOUT_SECONDS = 240 * EFFORT
"""Usually about thirty seconds are enough. A claim that PostgreSQL commits after ``end_leases`` ran
blocks its job until its lease of 30 s expires."""
SEED = 20261125


class Workers:
    """The process that forks workers, and its protocol."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.pid: int | None = None

    async def _send(self, text: str) -> str:
        assert self._process.stdin is not None
        self._process.stdin.write(text.encode() + b"\n")
        await self._process.stdin.drain()
        return await self.read_line()

    async def read_line(self) -> str:
        assert self._process.stdout is not None
        return (await self._process.stdout.readline()).decode().strip()

    async def fork(self) -> int:
        self.pid = int((await self._send("fork")).removeprefix("born "))
        return self.pid

    async def wait_for_exit(self, pid: int) -> None:
        assert await self._send(f"wait {pid}") == f"dead {pid}"


@asynccontextmanager
async def workers_on(place: Path | str, url: str) -> AsyncIterator[Workers]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.support.plan_worker",
        str(place),
        url,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    workers = Workers(process)
    assert await workers.read_line() == "ready"
    try:
        yield workers
    finally:
        assert process.stdin is not None
        process.stdin.close()
        await process.wait()


class WorkerKiller:
    """Kills a worker before, at or after a response, and checks each request."""

    def __init__(
        self, model: ScriptedModel, place: Path | str, random_source: random.Random
    ) -> None:
        self._model, self._place, self._random_source = model, place, random_source
        self.requested_though_stored: list[str] = []
        self.victim: int | None = None
        self.killed = asyncio.Event()
        model.before_answer = self.before_response
        model.after_answer = self.after_response
        self._mode, self._first_request = "", 0

    def aim(self, pid: int, mode: str) -> None:
        """Kill a worker at the second lesson that it requests."""
        self.victim, self._mode = pid, mode
        self._first_request = len(self._model.requests) + 2
        self.killed.clear()

    def before_response(self, number: int) -> None:
        """Check that the lesson is not stored; in mode ``in flight`` kill the worker."""
        question = self._model.questions[-1]
        with ThreadPoolExecutor(1) as thread:  # blocks the model server meanwhile
            lookup = thread.submit(asyncio.run, self._written_at(question["lesson"]["number"]))
            written_at = lookup.result()
        if written_at is not None:
            self.requested_though_stored.append(question["lesson"]["number"])
        if self._mode == "in flight" and number >= self._first_request:
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
        result: int | None = written_at
        return result

    def after_response(self, number: int) -> None:
        """Kill when the response is sent, or up to 20 ms later: before or after the commit."""
        if number < self._first_request:
            return
        if self._mode == "answered":
            self._kill()
        elif self._mode == "a moment later":
            asyncio.get_running_loop().call_later(self._random_source.uniform(0, 0.02), self._kill)

    def _kill(self) -> None:
        if self.victim is not None:
            os.kill(self.victim, signal.SIGKILL)
            self.victim = None
            self.killed.set()


async def test_kills_repeat_at_most_one_call_each_and_no_stored_lesson(
    db: Database, database: Path | str
) -> None:
    app = build_plan_application(db, RuleBasedGenerator())  # this process only enqueues and reads
    plan_id = await app.create_and_start(curriculum(MODULES, LESSONS))
    async with (
        timeout_with_job_report(db),
        scripted_model() as model,
        workers_on(database, model.url) as workers,
    ):
        killer = WorkerKiller(model, database, random.Random(SEED))
        for number in range(KILLS):
            pid = await workers.fork()
            killer.aim(pid, ("in flight", "answered", "a moment later")[number % 3])
            await killer.killed.wait()
            await workers.wait_for_exit(pid)
            await end_leases(db)
        assert (await app.status(plan_id)).status == "in_progress", "kills met work to do"
        killer.aim(await workers.fork(), "never")
        await until_complete(app, plan_id)
    assert killer.requested_though_stored == []
    lessons = MODULES * LESSONS
    assert len(model.requests_by_lesson) == lessons
    assert lessons < len(model.requests) <= lessons + KILLS
    calls = await app.calls(plan_id)
    assert len(model.requests) <= len(calls) <= len(model.requests) + KILLS
    assert sum(call.outcome == "answered" for call in calls) >= lessons
    plan = await app.plan(plan_id)
    written = [(each.slot, each.body) for each in plan.lessons if each.body is not None]
    assert len(written) == lessons
    assert check_plan(plan.curriculum, written) == []
    assert {lesson.revision for lesson in plan.lessons} == {1}, "each was stored once"


async def test_two_workers_never_write_one_lesson_twice(db: Database, database: Path | str) -> None:
    app = build_plan_application(db, RuleBasedGenerator())
    plans = [
        await app.create_and_start(curriculum(2, 5, title=f"Plan {number}")) for number in range(6)
    ]
    async with (
        timeout_with_job_report(db),
        scripted_model() as model,
        workers_on(database, model.url) as workers,
    ):
        await workers.fork()
        await workers.fork()
        for plan_id in plans:
            await until_complete(app, plan_id)
    assert len(model.requests) == 6 * 10
    lessons_requested = [(each["course"], each["lesson"]["number"]) for each in model.questions]
    assert len(set(lessons_requested)) == len(lessons_requested)
    async with db.read() as tx:
        rows = await tx.fetch("SELECT DISTINCT worker FROM job_attempt WHERE outcome = 'done'")
    assert len(rows) == 2, "both had work"


@asynccontextmanager
async def timeout_with_job_report(db: Database) -> AsyncIterator[None]:
    """Bound the duration of a test; report the state of its jobs if it times out."""
    try:
        async with asyncio.timeout(TIMEOUT_SECONDS):
            yield
    except TimeoutError as error:
        async with db.read() as tx:
            jobs = await tx.fetch(
                "SELECT id, state, attempts, last_error, worker, (lease_until - ?) / 1000000,"
                " (run_at - ?) / 1000000 FROM job ORDER BY seq",
                (tx.now, tx.now),
            )
        raise AssertionError(f"not done after {TIMEOUT_SECONDS} s: {jobs}") from error


async def end_leases(db: Database) -> None:
    """Expire the leases of a killed worker at once; earlier deaths were days ago.

    Kills in a row would end the job as their cause (decision 0023).
    """
    async with db.write() as tx:
        await tx.execute("UPDATE job_attempt SET finished_at = 1 WHERE outcome = 'lost'")
        await tx.execute("UPDATE job SET lease_until = 1 WHERE state = 'active'")


async def until_complete(app: PlanApplication, plan_id: str) -> None:
    """Poll until a plan is complete: commits of other processes notify no subscriber here."""
    while True:
        if (await app.status(plan_id)).status == "complete":
            return
        await asyncio.sleep(0.05)
