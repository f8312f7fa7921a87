"""A school with something in every corner that a copy or a backup might lose."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
from tests.support.database import database_at
from tests.support.progress_school import (
    SERVICE,
    School,
    attempt_at_quiz,
    chapter,
    event,
    open_school,
    quiz,
)

from homeroom.db.database import Database

LEARNERS = ("ada", "bo", "Zoë ñandú")
ROWS = {
    "person": "('ada', 'ada@school.example', 'Ada', 'Løve', 'en', 'UTC', NULL, '[]', 1, 2, '[]',"
    " NULL)",
    "schedule": "('nightly', '0 3 * * *', 'UTC', 'progress.prune', '{}', 1, 0, 1, 7, 8)",
    "schedule_slot": "('nightly', '2026-11-20T03:00Z', 7, 'fired', 0, 7, 'schedule.nightly', NULL)",
    "link_key": "(1, 'a secret', 5)",
    "sending_pace": "('email', 5)",
    "log_salt": "(1, 'a salt')",
    "progress_fold": "('cy', 'fire', 0, 0, 7, 3, 0, '{\"a\":[4000,0,null,null,7,null]}', '[]')",
    "queue": "('progress', 1, 4, NULL, NULL, 0, 0, 100, 200, NULL, NULL, NULL, NULL)",
}


async def play(db: Database) -> None:
    """Let three learners work, one of them in two attempts, and leave jobs in every state."""
    async with open_school(db) as played:
        await played.publish("fire", chapter("a"), quiz("q"), chapter("b", required=False))
        for learner in LEARNERS:
            await _learn(played, learner)
        await played.send(event("unknown", courseId="water"))
    async with db.write() as tx:
        for table, values in ROWS.items():
            await tx.execute(f"INSERT INTO {table} VALUES {values} ON CONFLICT DO NOTHING")
        for number, state in enumerate(("waiting", "delayed", "active", "failed", "completed")):
            await tx.execute(
                "INSERT INTO job (id, keeps_id, queue, kind, state, priority, payload, version,"
                " run_at, created_at, attempts, max_attempts, allowance, cancel_requested,"
                " deps_pending, unannounced, lease_token, lease_until)"
                " VALUES (?, 1, 'chores', 'chores.sweep', ?, 0, '{}', 1, 5, 5, 0, 3, 3, 0, 0, 0,"
                " ?, ?)",
                (f"job-{number}", state, "a lease" if state == "active" else None, 5),
            )


async def _learn(played: School, learner: str) -> None:
    def of(made: dict[str, Any]) -> dict[str, Any]:
        return {**made, "id": f"{learner}-{made['id']}", "userId": learner}

    await played.send(
        of(event("1", progress=40, timeSpent=60)),
        of(event("2", progress=100, timeSpent=30, timestamp="2026-11-20T09:10:00Z")),
        of(attempt_at_quiz("3", 9, chapterId="q", timestamp="2026-11-20T09:20:00Z")),
    )
    if learner == "bo":
        reset = event("4", "progress_reset", chapterId=None, timestamp="2026-11-20T09:05:00Z")
        await played.send(of(reset))
        await played.send(of(event("5", progress=20, timeSpent=7)))


async def answers(place: Path | str) -> dict[str, Any]:
    """Return what the API says of every learner: progress, chapters and history."""
    db = database_at(place)
    await db.open()
    try:
        async with open_school(db) as opened:
            told = {}
            for learner in LEARNERS:
                told[learner] = await opened.progress(learner)
                told[f"{learner}, history"] = await _history(opened.http, learner)
            return told
    finally:
        await db.close()


async def _history(http: httpx.AsyncClient, learner: str) -> Any:
    answer = await http.get(
        "/api/v1/courses/fire/progress/history", params={"userId": learner}, headers=SERVICE
    )
    assert answer.status_code == 200, answer.text
    return answer.json()


async def played_at(place: Path | str) -> None:
    """Play at a database that is named by its file or URL."""
    db = database_at(place)
    await db.open()
    try:
        await play(db)
    finally:
        await db.close()


async def rows_of(place: Path | str, sql: str) -> list[tuple[Any, ...]]:
    """Return the rows of a query."""
    db = database_at(place)
    await db.open()
    try:
        async with db.read() as tx:
            return await tx.fetch(sql)
    finally:
        await db.close()


async def change(place: Path | str, *statements: str) -> None:
    """Run statements in one transaction."""
    db = database_at(place)
    await db.open()
    try:
        async with db.write() as tx:
            for sql in statements:
                await tx.execute(sql)
    finally:
        await db.close()
