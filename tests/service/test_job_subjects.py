"""Jobs show the learner and course that they are for, and are found by them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any

import httpx
import pytest
from tests.support.api_client import AUTH, as_, client

from homeroom.bootstrap.job_subjects import JOB_SUBJECTS
from homeroom.credentials.jobs import IssueCredential
from homeroom.db.database import Database
from homeroom.db.ids import natural_id, new_id
from homeroom.db.tx import Tx
from homeroom.dispatch.jobs import ReplayDispatch
from homeroom.jobs import api as jobs
from homeroom.jobs import routes
from homeroom.lessonplans.jobs import GenerateModule
from homeroom.notify.jobs import SendReminder
from homeroom.progress.jobs import MoveLearners

pytestmark = [pytest.mark.anyio, pytest.mark.service]
COMPLETION, DISPATCH, DELIVERY, PLAN = new_id(), new_id(), new_id(), new_id()
STEP_JOB = natural_id(COMPLETION, "credential")
REPLAY_JOB = natural_id("dispatch", DISPATCH, "replay", "1")
NOBODY = (None, None, None)


async def keep_no_record(
    tx: Tx, actor: str, action: str, subject: str, details: Mapping[str, Any] | None = None
) -> None:
    del tx, actor, action, subject, details


@pytest.fixture
async def http(db: Database) -> AsyncIterator[httpx.AsyncClient]:
    """Serve the jobs of a completion, a dispatch, a delivery, a plan and a course."""
    async with db.write() as tx:
        await tx.execute(
            "INSERT INTO completion (id, user_id, course_id, attempt, course_version, course_title,"
            " completed_at, recorded_at, time_spent, chapters)"
            " VALUES (?, 'u-1042', 'fire_safety', 1, 1, 'Fire', 1, 1, 1, '[]')",
            (COMPLETION,),
        )
        await tx.execute(
            "INSERT INTO dispatch (id, destination, type, completion_id, user_id, payload, status,"
            " attempts, replays, created_at)"
            " VALUES (?, 'hr', 't', ?, 'u-1042', '{}', 'failed', 1, 1, 1)",
            (DISPATCH, COMPLETION),
        )
        await tx.execute(
            "INSERT INTO notification (id, dedupe_key, type, user_id, params, metadata, created_at)"
            " VALUES ('n', 'n', 'reminder', 'fay', '{}', '{}', 1)"
        )
        await tx.execute(
            "INSERT INTO delivery (id, notification_id, channel, status, attempts, job, created_at,"
            " updated_at) VALUES (?, 'n', 'email', 'pending', 0, 'mail', 1, 1)",
            (DELIVERY,),
        )
        await tx.execute(
            "INSERT INTO lesson_plan (id, title, course_id, curriculum, input_hash, changes,"
            " created_at, created_by) VALUES (?, 'T', 'knots', '{}', 'h', 0, 1, 'ann')",
            (PLAN,),
        )
        await tx.execute(
            "INSERT INTO lesson_plan_module (plan_id, idx, state, round, queued, job_id)"
            " VALUES (?, 0, 'queued', 1, 1, 'plan')",
            (PLAN,),
        )
        await jobs.enqueue(tx, IssueCredential(completion_id=COMPLETION), id=STEP_JOB)
        await jobs.enqueue(tx, ReplayDispatch(dispatch_id=DISPATCH), id=REPLAY_JOB)
        await jobs.enqueue(tx, SendReminder(delivery_id=DELIVERY), id="mail")
        await jobs.enqueue(tx, GenerateModule(plan_id=PLAN, module_index=0), id="plan")
        await jobs.enqueue(tx, MoveLearners(course_id="knots"), id="move")
        await jobs.enqueue(tx, IssueCredential(completion_id=new_id()), id="gone")
    registry = jobs.Registry()
    async with client(routes.router(db, AUTH, registry, keep_no_record, JOB_SUBJECTS)) as opened:
        yield opened


async def search(http: httpx.AsyncClient, text: str | None = None) -> dict[str, tuple[Any, ...]]:
    params = {} if text is None else {"q": text}
    answer = await http.get("/api/v1/jobs", params=params, headers=as_("viewer"))
    assert answer.status_code == 200, answer.text
    return {
        item["id"]: (item["userId"], item["courseId"], item["completionId"])
        for item in answer.json()["items"]
    }


async def test_jobs_show_whom_they_are_for(http: httpx.AsyncClient) -> None:
    of_completion = ("u-1042", "fire_safety", COMPLETION)
    assert await search(http) == {
        STEP_JOB: of_completion,
        REPLAY_JOB: of_completion,
        "mail": ("fay", None, None),
        "plan": (None, "knots", None),
        "move": (None, "knots", None),
        "gone": NOBODY,
    }
    one = (await http.get(f"/api/v1/jobs/{STEP_JOB}", headers=as_("viewer"))).json()
    assert (one["userId"], one["courseId"]) == ("u-1042", "fire_safety")
    assert one["data"] == {"completionId": COMPLETION}  # what goes to Redis names no learner


async def test_jobs_are_found_by_learner_and_course(http: httpx.AsyncClient) -> None:
    for text, expected in (
        ("u-1042", {STEP_JOB, REPLAY_JOB}),
        ("U-104", {STEP_JOB, REPLAY_JOB}),
        ("fire_safety", {STEP_JOB, REPLAY_JOB}),
        ("fire%safety", set()),
        ("fay", {"mail"}),
        ("knots", {"plan", "move"}),
        ("nobody", set()),
    ):
        assert set(await search(http, text)) == expected, text
    cancelled = await http.post(
        "/api/v1/jobs/bulk",
        json={"action": "cancel", "filter": {"q": "u-1042"}},
        headers=as_("operator"),
    )
    assert cancelled.json() == {"count": 2}
    assert (await http.get("/api/v1/jobs?q=u-1042", headers=as_("learner:u-1042"))).is_error


async def test_the_id_of_a_learner_finds_no_other_by_any_filter(
    http: httpx.AsyncClient, db: Database
) -> None:
    """An action on the jobs of one learner must not go on with those of a longer id."""
    other = new_id()
    async with db.write() as tx:
        await tx.execute(
            "INSERT INTO completion (id, user_id, course_id, attempt, course_version, course_title,"
            " completed_at, recorded_at, time_spent, chapters)"
            " VALUES (?, 'u-10421', 'fire_safety', 1, 1, 'Fire', 1, 1, 1, '[]')",
            (other,),
        )
        others = natural_id(other, "credential")
        await jobs.enqueue(tx, IssueCredential(completion_id=other), id=others)
    assert set(await search(http, "u-1042")) == {STEP_JOB, REPLAY_JOB}
    assert set(await search(http, "u-104")) == {STEP_JOB, REPLAY_JOB, others}
    cancel = {"action": "cancel", "filter": {"q": "u-1042"}}
    for count in (2, 0):  # again, when none of this learner's waits any more
        answer = await http.post("/api/v1/jobs/bulk", json=cancel, headers=as_("operator"))
        assert answer.json() == {"count": count}
    waiting = {"q": "u-1042", "state": "waiting"}
    page = (await http.get("/api/v1/jobs", params=waiting, headers=as_("viewer"))).json()
    assert page["items"] == []
