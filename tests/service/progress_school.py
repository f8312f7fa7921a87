"""A school for the tests of progress: real SQLite, real ingest, real sockets, a real worker."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, ClassVar

import httpx
from tests.service.rooms_client import AUTH, as_
from tests.unit.web.serving import serving

from homeroom.catalogue import routes as catalogue_routes
from homeroom.catalogue.api import Catalogue
from homeroom.completion.api import Completions, Step, StepArgs
from homeroom.db.database import Database
from homeroom.db.group_commit import Limits
from homeroom.http.app import INGEST_PATH, create_app
from homeroom.http.ingest import ingest_app
from homeroom.http.ingest_openapi import INGEST_PATHS, INGEST_SCHEMAS
from homeroom.jobs import api as jobs
from homeroom.jobs.engines.sql import SqlEngine
from homeroom.jobs.worker import Worker
from homeroom.progress import routes
from homeroom.progress.api import Ingest, ProgressJobs

SERVICE, ADA, OPERATOR = as_("service"), as_("learner:ada"), as_("operator")
WORK_TABLES = (
    "progress_event",
    "course_progress",
    "quiz_attempt",
    "progress_fold",
    "progress_quarantine",
    "enrolment",
    "completion",
    "job",
)


class Celebrate(StepArgs, frozen=True, kw_only=True):
    kind: ClassVar[str] = "celebrate.test"
    queue: ClassVar[str] = "celebrations"


def chapter(id: str, **more: Any) -> dict[str, Any]:
    return {"id": id, "title": id.upper(), **more}


def quiz(id: str, threshold: float = 0.8, move_on: str = "Passed", **more: Any) -> dict[str, Any]:
    return chapter(id, moveOn=move_on, quiz={"passThreshold": threshold}, **more)


def course_body(*chapters: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {
        "title": "Fire safety",
        "units": [{"id": "u", "title": "U", "chapters": list(chapters)}],
        **more,
    }


def event(id: str, kind: str = "chapter_progress", **more: Any) -> dict[str, Any]:
    """Return an event of Ada's at chapter ``a`` of ``fire``; what is given as None is left out."""
    members = {
        "id": id,
        "userId": "ada",
        "courseId": "fire",
        "chapterId": "a",
        "eventType": kind,
        "timestamp": "2026-11-20T09:00:00Z",
        **more,
    }
    return {name: value for name, value in members.items() if value is not None}


def attempt_at_quiz(id: str, score: float, of: float = 10, **more: Any) -> dict[str, Any]:
    points = {"attemptId": f"try-{id}", "score": score, "maxScore": of}
    return event(id, "quiz_attempt", **{"quiz": points, **more})


@dataclass
class School:
    db: Database
    catalogue: Catalogue
    completions: Completions
    ingest: Ingest
    jobs: ProgressJobs
    http: httpx.AsyncClient
    statuses: dict[str, int] = field(default_factory=dict)

    async def publish(self, id: str, *chapters: dict[str, Any], **more: Any) -> None:
        async with self.db.write() as tx:
            await self.catalogue.publish(tx, id, course_body(*chapters, **more))

    async def post(self, *events: Any, who: dict[str, str] = SERVICE) -> httpx.Response:
        return await self.http.post(INGEST_PATH, json={"events": events}, headers=who)

    async def send(self, *events: Any, who: dict[str, str] = SERVICE) -> dict[str, Any]:
        answer = await self.post(*events, who=who)
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    async def progress(self, user: str = "ada", course: str = "fire") -> dict[str, Any]:
        answer = await self.http.get(
            f"/api/v1/courses/{course}/progress", params={"userId": user}, headers=SERVICE
        )
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    async def rows(self, sql: str) -> list[tuple[Any, ...]]:
        async with self.db.read() as tx:
            return await tx.fetch(sql)

    async def tables(self) -> dict[str, list[tuple[Any, ...]]]:
        """Return all that events may change."""
        return {
            name: await self.rows(f"SELECT * FROM {name} ORDER BY 1, 2") for name in WORK_TABLES
        }

    async def work(self) -> None:
        """Run a worker until no job of progress is open."""
        registry = jobs.Registry()
        self.jobs.register(registry)
        worker = Worker(self.db, registry, SqlEngine())
        running = asyncio.ensure_future(worker.run())
        open_jobs = (
            "SELECT count(*) FROM job WHERE queue = 'progress'"
            " AND state NOT IN ('completed', 'failed')"
        )
        async with asyncio.timeout(20):
            changed = asyncio.Event()
            stop = self.db.subscribe(lambda topics: changed.set())
            while await self.rows(open_jobs) != [(0,)]:
                changed.clear()
                await asyncio.wait([asyncio.ensure_future(changed.wait())], timeout=0.1)
            stop()
        worker.stop()
        await running
        failed = "SELECT id, kind FROM job WHERE queue = 'progress' AND state = 'failed'"
        assert await self.rows(failed) == []


@asynccontextmanager
async def school(
    db: Database,
    *,
    limits: Limits | None = None,
    on_stuck: Any = None,
    event_retention: timedelta | None = None,
) -> AsyncIterator[School]:
    completions = Completions([Step("celebrate", lambda id: Celebrate(completion_id=id))])
    catalogue = Catalogue()
    ingest = Ingest(db, completions, limits=limits, on_stuck=on_stuck)
    progress_jobs = ProgressJobs(db, ingest, completions, event_retention=event_retention)
    catalogue.on_publish.append(progress_jobs.on_publish)
    catalogue.on_enrolment.append(progress_jobs.on_enrolment)
    statuses: dict[str, int] = {}

    def observe(status: str, count: int) -> None:
        statuses[status] = statuses.get(status, 0) + count

    app = create_app(
        [
            routes.router(db, AUTH, ingest),
            catalogue_routes.router(db, AUTH, catalogue, progress_jobs.preview),
        ],
        ingest=ingest_app(ingest, AUTH, db.clock, observe),
        ingest_paths=INGEST_PATHS,
        ingest_schemas=INGEST_SCHEMAS,
    )
    running = asyncio.ensure_future(ingest.run())
    async with serving(app) as http:
        yield School(db, catalogue, completions, ingest, progress_jobs, http, statuses)
    ingest.close()
    await running
