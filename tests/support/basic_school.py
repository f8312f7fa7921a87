"""A small school: packages built by hand on a real database."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, ClassVar

from tests.support.kernel import Kernel

from homeroom.catalogue.api import Catalogue, Course
from homeroom.completion.api import (
    Completion,
    CompletionFilter,
    Completions,
    CompletionStep,
    ListedStep,
    StepArgs,
)
from homeroom.db.database import Database
from homeroom.jobs.api import Done, JobContext, Outcome
from homeroom.progress.api import EventSender, Ingest, decode_body, ingest_events
from homeroom.progress.queries import CourseProgress, learner_progress

PLATFORM = EventSender(person=None, trusted=True, may_manage=True)


class Applaud(StepArgs, frozen=True, kw_only=True):
    """The one step that follows a completion in this school."""

    kind: ClassVar[str] = "basics.applaud"
    queue: ClassVar[str] = "basics"


class School:
    """Catalogue, ingest and one step, applause, which ``applauded`` lists."""

    def __init__(self, db: Database) -> None:
        self.db, self.catalogue, self.kernel = db, Catalogue(), Kernel(db)
        self.completions = Completions(
            [CompletionStep("applause", lambda id: Applaud(completion_id=id))]
        )
        self.ingest = Ingest(db, self.completions)
        self.applauded: list[str] = []
        self.kernel.registry.add(Applaud, self._applaud, self.completions.step_updater("applause"))

    async def _applaud(self, ctx: JobContext, args: Applaud) -> Outcome:
        self.applauded.append(args.completion_id)
        return Done()

    async def publish(self, course_id: str, *chapters: str, **more: Any) -> Course:
        listed = [{"id": id, "title": id.title()} for id in chapters]
        body = {"title": course_id, "units": [{"id": "u", "title": "U", "chapters": listed}]}
        async with self.db.write() as tx:
            return (await self.catalogue.publish(tx, course_id, {**body, **more})).course

    async def send(self, *events: dict[str, Any], sender: EventSender = PLATFORM) -> dict[str, int]:
        """Ingest events as a request does; return the counts by status."""
        validated = decode_body(json.dumps(events).encode(), sender, self.db.clock.now())
        return (await ingest_events(self.ingest, validated))[0]

    async def progress(self, user: str = "ada", course: str = "fire") -> CourseProgress:
        async with self.db.read() as tx:
            return (await learner_progress(tx, user, course, self.completions)).course

    async def finished(self) -> list[Completion]:
        async with self.db.read() as tx:
            return await self.completions.list_newest(tx, CompletionFilter(), None, 100)

    async def steps(self, completion: Completion) -> list[ListedStep]:
        async with self.db.read() as tx:
            return (await self.completions.list_steps(tx, [completion.id]))[completion.id]

    @asynccontextmanager
    async def open(self) -> AsyncIterator[School]:
        """Run ingest until the end of a test."""
        ingest = self.ingest
        running = asyncio.create_task(ingest.run())
        yield self
        ingest.close()
        await running

    async def work(self) -> None:
        """Run a worker until every job has ended or is delayed."""
        await self.kernel.run_jobs()


def event(id: str, kind: str = "chapter_progress", **more: Any) -> dict[str, Any]:
    """Return an event of Ada at the chapter ``exits`` of the course ``fire``."""
    usual = {"userId": "ada", "courseId": "fire", "chapterId": "exits"}
    return {"id": id, "eventType": kind, "timestamp": "2026-11-20T09:00:00Z", **usual, **more}
