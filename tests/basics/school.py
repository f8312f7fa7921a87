"""A small school: the rooms built by hand on a real database, as ``wiring`` builds them all."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, ClassVar

from homeroom.catalogue.api import Catalogue, Course
from homeroom.completion.api import Completion, Completions, Filter, Step, StepArgs, StepState
from homeroom.db.database import Database
from homeroom.jobs.api import Done, JobContext, Outcome, Registry
from homeroom.jobs.engines.sql import SqlEngine
from homeroom.jobs.worker import Worker
from homeroom.progress.api import Ingest, Sender, read_body, take
from homeroom.progress.read import CourseLine, of_learner

PLATFORM = Sender(person=None, trusted=True, may_manage=True)
PATIENCE_SECONDS = 20


class Applaud(StepArgs, frozen=True, kw_only=True):
    """What must follow a completion in this school."""

    kind: ClassVar[str] = "basics.applaud"
    queue: ClassVar[str] = "basics"


class School:
    """One step follows a completion here: applause, which ``heard`` counts."""

    def __init__(self, db: Database) -> None:
        self.db, self.catalogue, self.registry = db, Catalogue(), Registry()
        self.completions = Completions([Step("applause", lambda id: Applaud(completion_id=id))])
        self.ingest = Ingest(db, self.completions)
        self.heard: list[str] = []
        self.registry.add(Applaud, self._applaud, self.completions.follow("applause"))

    async def _applaud(self, ctx: JobContext, args: Applaud) -> Outcome:
        self.heard.append(args.completion_id)
        return Done()

    async def publish(self, course_id: str, *chapters: str, **more: Any) -> Course:
        listed = [{"id": id, "title": id.title()} for id in chapters]
        body = {"title": course_id, "units": [{"id": "u", "title": "U", "chapters": listed}]}
        async with self.db.write() as tx:
            return (await self.catalogue.publish(tx, course_id, {**body, **more})).course

    async def send(self, *events: dict[str, Any], sender: Sender = PLATFORM) -> dict[str, int]:
        """Send events as a request would, and return how many were accepted and so on."""
        judged = read_body(json.dumps(events).encode(), sender, self.db.clock.now())
        return (await take(self.ingest, judged))[0]

    async def progress(self, user: str = "ada", course: str = "fire") -> CourseLine:
        async with self.db.read() as tx:
            return (await of_learner(tx, user, course))[0]

    async def finished(self) -> list[Completion]:
        async with self.db.read() as tx:
            return await self.completions.newest(tx, Filter(), None, 100)

    async def steps(self, completion: Completion) -> list[StepState]:
        async with self.db.read() as tx:
            return (await self.completions.steps_of(tx, [completion.id]))[completion.id]

    @asynccontextmanager
    async def open(self) -> AsyncIterator[School]:
        """Take events in for the length of a test."""
        ingest = self.ingest
        running = asyncio.create_task(ingest.run())
        yield self
        ingest.close()
        await running

    async def work(self) -> None:
        await work(self.db, self.registry)


async def work(db: Database, registry: Registry) -> None:
    """Run a real worker until every job has ended or waits for a later time."""
    worker, committed = Worker(db, registry, SqlEngine()), asyncio.Event()
    forget = db.subscribe(lambda topics: committed.set())
    running = asyncio.create_task(worker.run())
    async with asyncio.timeout(PATIENCE_SECONDS):
        while await _open_jobs(db):
            await committed.wait()
            committed.clear()
    forget()
    worker.stop()
    await running


async def _open_jobs(db: Database) -> int:
    async with db.read() as tx:
        [[count]] = await tx.fetch("SELECT COUNT(*) FROM job WHERE state IN ('waiting', 'active')")
    return int(count)


def event(id: str, kind: str = "chapter_progress", **more: Any) -> dict[str, Any]:
    """Return an event of Ada's at the chapter ``exits`` of the course ``fire``."""
    usual = {"userId": "ada", "courseId": "fire", "chapterId": "exits"}
    return {"id": id, "eventType": kind, "timestamp": "2026-11-20T09:00:00Z", **usual, **more}
