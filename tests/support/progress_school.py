"""School for the tests of progress: real databases, ingest, sockets and workers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, ClassVar

import httpx
from tests.support.api_client import AUTH, as_
from tests.support.asgi_server import MAX_BODY_BYTES, serving
from tests.support.kernel import Kernel

from homeroom.activity.api import find_missed_weeks
from homeroom.catalogue import routes as catalogue_routes
from homeroom.catalogue.api import Catalogue
from homeroom.completion.api import Completions, CompletionStep, StepArgs
from homeroom.db.database import Database
from homeroom.db.group_commit import GroupCommitLimits
from homeroom.http.app import create_app
from homeroom.http.ingest import INGEST_PATH, ingest_app
from homeroom.http.openapi import INGEST_PATHS, INGEST_SCHEMAS
from homeroom.progress import routes, team_routes
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
    """Return an event of Ada at chapter ``a`` of ``fire``, without null members."""
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
        """Return the rows that events may change."""
        return {
            name: await self.rows(f"SELECT * FROM {name} ORDER BY 1, 2") for name in WORK_TABLES
        }

    async def work(self) -> None:
        """Run a worker until no job of progress is open."""
        kernel = Kernel(self.db)
        self.jobs.register(kernel.registry)
        open_jobs = (
            "SELECT count(*) FROM job WHERE queue = 'progress'"
            " AND state NOT IN ('completed', 'failed')"
        )

        async def is_done() -> bool:
            return await self.rows(open_jobs) == [(0,)]

        async with kernel.worker():
            await kernel.wait_until(is_done)
        failed = "SELECT id, kind FROM job WHERE queue = 'progress' AND state = 'failed'"
        assert await self.rows(failed) == []


@asynccontextmanager
async def open_school(
    db: Database,
    *,
    limits: GroupCommitLimits | None = None,
    on_stuck: Callable[[str], None] | None = None,
    event_retention: timedelta | None = None,
    cors_origins: Sequence[str] = (),
) -> AsyncIterator[School]:
    completions = Completions([CompletionStep("celebrate", lambda id: Celebrate(completion_id=id))])
    catalogue = Catalogue()
    ingest = Ingest(db, completions, limits=limits, on_stuck=on_stuck)
    progress_jobs = ProgressJobs(
        db,
        ingest,
        completions,
        quarantine_ttl=timedelta(days=30),
        event_retention=event_retention,
    )
    catalogue.on_publish.append(progress_jobs.on_publish)
    catalogue.on_enrolment.append(progress_jobs.on_enrolment)
    statuses: dict[str, int] = {}

    def observe(status: str, count: int) -> None:
        statuses[status] = statuses.get(status, 0) + count

    app = create_app(
        [
            routes.router(db, AUTH, ingest),
            team_routes.router(db, AUTH, find_missed_weeks),
            catalogue_routes.router(db, AUTH, catalogue, progress_jobs.preview),
        ],
        ingest=ingest_app(ingest, AUTH, db, observe, beacon_origins=cors_origins),
        ingest_paths=INGEST_PATHS,
        ingest_schemas=INGEST_SCHEMAS,
        max_body_bytes=MAX_BODY_BYTES,
        cors_origins=cors_origins,
    )
    running = asyncio.ensure_future(ingest.run())
    async with serving(app) as http:
        yield School(db, catalogue, completions, ingest, progress_jobs, http, statuses)
    ingest.close()
    await running
