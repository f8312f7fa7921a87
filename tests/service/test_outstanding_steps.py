"""Outstanding steps: listed by learner, course, status and reason, and retried together."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any, ClassVar

import httpx
import pytest
from tests.support.api_client import AUTH, as_, client

from homeroom.catalogue import api as catalogue
from homeroom.catalogue.api import Catalogue, Course, Enrolment
from homeroom.completion import api as completion_api
from homeroom.completion import routes
from homeroom.completion.api import (
    Completion,
    Completions,
    CompletionStep,
    NewCompletion,
    SkipReason,
    StepArgs,
    StepCounts,
)
from homeroom.db.database import Database
from homeroom.db.sqlite.database import SqliteDatabase
from homeroom.jobs import api as jobs
from homeroom.jobs.job import Job

pytestmark = [pytest.mark.anyio, pytest.mark.service]
OPERATOR = as_("operator")
LIST, RETRY = "/api/v1/completions", "/api/v1/completions/retry"


class IssueTest(StepArgs, frozen=True, kw_only=True):
    kind: ClassVar[str] = "completion.credential"
    queue: ClassVar[str] = "credentials"


class ReportTest(StepArgs, frozen=True, kw_only=True):
    kind: ClassVar[str] = "completion.hr"
    queue: ClassVar[str] = "dispatch"


class School:
    """Completions whose jobs the test puts into the states that a worker would."""

    def __init__(self, db: Database, course: Course) -> None:
        self.db, self.course = db, course
        self.hr_is_configured = False

        def skip(completion: Completion, course: Course) -> SkipReason | None:
            is_set = self.hr_is_configured
            return None if is_set else SkipReason("no_url", "HOMEROOM_HR_URL is not set")

        self.completions = Completions(
            [
                CompletionStep("credential", lambda id: IssueTest(completion_id=id)),
                CompletionStep("hr", lambda id: ReportTest(completion_id=id), skip),
            ]
        )

    async def complete(self, *users: str) -> list[Completion]:
        course = self.course
        async with self.db.write() as tx:
            await catalogue.add_enrolments(
                tx, [Enrolment(user, course.id, 1, 1, "in_progress", 1, 0) for user in users]
            )
            return await self.completions.record(
                tx, [NewCompletion(user, course, 1, 1_000_000, 0, 60, ()) for user in users]
            )

    async def end(self, completions: Sequence[Completion], sql: str, *values: Any) -> None:
        """Change the jobs of the credential steps, then the steps, as a worker does."""
        update = self.completions.step_updater("credential")
        async with self.db.write() as tx:
            for completion in completions:
                job_id = f"{completion.id}.credential"
                await tx.execute(f"UPDATE job SET {sql} WHERE id = ?", (*values, job_id))
                job: Job = (await jobs.find(tx, [job_id]))[job_id]
                await update(tx, job, IssueTest(completion_id=completion.id))

    async def fail(
        self, completions: Sequence[Completion], reason: str = "attempts_exhausted"
    ) -> None:
        await self.end(
            completions,
            "state = 'failed', attempts = 4, last_error = 'Credly answered 503',"
            " finished_at = 5, reason_code = ?",
            reason,
        )

    async def steps(self, name: str) -> dict[str, str]:
        async with self.db.read() as tx:
            rows = await tx.fetch(
                "SELECT user_id, status FROM completion_step JOIN completion ON id = completion_id"
                " WHERE name = ?",
                (name,),
            )
        return {str(user): str(status) for user, status in rows}


@pytest.fixture
async def school(db: Database) -> School:
    body = {"title": "Safety", "units": [{"id": "u", "title": "U", "chapters": [
        {"id": "a", "title": "A"}]}]}  # fmt: skip
    async with db.write() as tx:
        return School(db, (await Catalogue().publish(tx, "safety", body)).course)


@pytest.fixture
async def http(db: Database, school: School) -> AsyncIterator[httpx.AsyncClient]:
    async with client(routes.router(db, AUTH, school.completions)) as opened:
        yield opened


async def users(http: httpx.AsyncClient, who: str = "operator", **query: Any) -> list[str]:
    """Return the learners of the completions that a query lists, over all pages."""
    found: list[str] = []
    params = {"limit": 2, **query}
    while True:
        answer = await http.get(LIST, params=params, headers=as_(who))
        assert answer.status_code == 200, answer.text
        found += [item["userId"] for item in answer.json()["items"]]
        if answer.json()["nextCursor"] is None:
            return found
        params["cursor"] = answer.json()["nextCursor"]


async def test_completions_are_found_by_step_status_and_reason(
    school: School, http: httpx.AsyncClient
) -> None:
    made = []
    for number in range(6):  # one after the other, so that the ids have an order
        made += await school.complete(f"u{number}")
    await school.fail(made[:2])
    await school.fail(made[2:3], "handler_failed")
    await school.end(made[3:4], "state = 'completed', finished_at = 5")
    await school.end(made[4:5], "state = 'active', started_at = 5")
    for query, expected in (
        ({"step": "credential", "status": "failed"}, ["u2", "u1", "u0"]),
        ({"step": "credential", "reason": "attempts_exhausted"}, ["u1", "u0"]),
        ({"step": "credential", "status": "failed", "reason": "handler_failed"}, ["u2"]),
        ({"step": "credential", "status": "completed"}, ["u3"]),
        ({"step": "credential", "status": "active"}, ["u4"]),
        ({"step": "credential", "status": "waiting"}, ["u5"]),
        ({"step": "credential", "status": "outstanding"}, ["u5", "u4", "u2", "u1", "u0"]),
        ({"step": "credential", "status": "not-completed", "userId": "u1"}, ["u1"]),
        ({"step": "hr", "status": "outstanding"}, []),
        ({"step": "hr", "reason": "no_url"}, ["u5", "u4", "u3", "u2", "u1", "u0"]),
        ({"status": "failed", "courseId": "safety"}, ["u2", "u1", "u0"]),
        ({"status": "failed", "courseId": "other"}, []),
        ({"status": "failed", "since": "2999-01-01T00:00:00Z"}, []),
    ):
        assert await users(http, **query) == expected, query
    assert await users(http, "learner:u1", status="failed") == ["u1"]
    assert await users(http, "learner:u3", status="failed") == []


async def test_a_step_tells_its_reason_and_its_next_attempt(
    school: School, http: httpx.AsyncClient
) -> None:
    failed, delayed = await school.complete("ada", "bob")
    await school.fail([failed])
    await school.end(
        [delayed],
        "state = 'delayed', run_at = ?, attempts = 1, reason_code = 'handler_error'",
        2_000_000,
    )

    async def step(user: str, position: int) -> dict[str, Any]:
        answer = await http.get(LIST, params={"userId": user}, headers=OPERATOR)
        found: dict[str, Any] = answer.json()["items"][0]["steps"][position]
        return found

    credential = await step("ada", 0)
    assert (credential["status"], credential["reasonCode"]) == ("failed", "attempts_exhausted")
    assert credential["nextAttemptAt"] is None
    waiting = await step("bob", 0)
    assert (waiting["status"], waiting["reasonCode"]) == ("waiting", "handler_error")
    assert waiting["nextAttemptAt"] == "1970-01-01T00:00:02.000000Z"
    assert (await step("ada", 1))["reasonCode"] == "no_url"


@pytest.mark.parametrize(
    "query", [{"step": "credentials"}, {"status": "lost"}, {"reason": ""}, {"step": "x" * 65}]
)
async def test_a_filter_that_cannot_match_is_refused(
    http: httpx.AsyncClient, query: dict[str, str]
) -> None:
    answer = await http.get(LIST, params=query, headers=OPERATOR)
    assert answer.status_code == 422


async def test_all_failed_steps_are_retried_at_once_and_audited(
    school: School, http: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(completion_api, "RETRY_BATCH", 2)
    made = await school.complete(*(f"u{number}" for number in range(5)))
    await school.fail(made[:4])
    async with school.db.write() as tx:
        await jobs.remove(tx, f"{made[0].id}.credential")  # as if it had been pruned

    async def retry(**body: Any) -> int:
        answer = await http.post(RETRY, json={"step": "credential", **body}, headers=OPERATOR)
        assert answer.status_code == 200, answer.text
        count: int = answer.json()["count"]
        return count

    assert await retry(dryRun=True) == 4
    assert await retry(userId="u4") == await retry(reason="cancelled") == 0
    assert await retry(courseId="other") == await retry(since="2999-01-01T00:00:00Z") == 0
    assert await retry(userId="u1", courseId="safety") == 1
    assert await retry(dryRun=True) == 3
    assert await retry() == 3
    assert await retry() == 0
    assert set((await school.steps("credential")).values()) == {"waiting"}
    async with school.db.read() as tx:
        states = await jobs.states(
            tx, [f"{made[0].id}.credential.2", *(f"{each.id}.credential" for each in made[1:])]
        )
        audit = await tx.fetch("SELECT subject, details FROM audit WHERE action = 'steps.retried'")
    assert len(states) == 5
    assert set(states.values()) == {jobs.JobState.WAITING}
    assert [subject for subject, _ in audit] == ["credential"] * 3  # 1, then 2 and 1
    assert '"u1"' in audit[0][1]


async def test_skipped_steps_are_retried_once_their_reason_is_gone(
    school: School, http: httpx.AsyncClient
) -> None:
    await school.complete("ada", "bob")
    body = {"step": "hr", "status": "skipped", "reason": "no_url"}
    still = await http.post(RETRY, json=body, headers=OPERATOR)
    assert still.json() == {"count": 0}
    school.hr_is_configured = True
    assert (await http.post(RETRY, json={**body, "dryRun": True}, headers=OPERATOR)).json() == {
        "count": 2
    }
    assert (await http.post(RETRY, json=body, headers=OPERATOR)).json() == {"count": 2}
    assert await school.steps("hr") == {"ada": "waiting", "bob": "waiting"}


async def test_waiting_steps_are_tried_now_and_those_without_a_job_get_one(
    school: School, http: httpx.AsyncClient
) -> None:
    delayed, lost, _ = await school.complete("ada", "bob", "cyd")
    await school.end([delayed], "state = 'delayed', run_at = ?", 2**60)
    async with school.db.write() as tx:
        await tx.execute("DELETE FROM job WHERE id = ?", (f"{lost.id}.credential",))
    body = {"step": "credential", "status": "waiting"}
    assert (await http.post(RETRY, json=body, headers=OPERATOR)).json() == {"count": 2}
    async with school.db.read() as tx:
        states = await jobs.states(tx, [f"{delayed.id}.credential", f"{lost.id}.credential.2"])
    assert list(states.values()) == [jobs.JobState.WAITING] * 2


async def test_two_operators_who_retry_at_once_retry_each_step_once(
    school: School, http: httpx.AsyncClient
) -> None:
    made = await school.complete(*(f"u{number}" for number in range(20)))
    await school.fail(made)
    body = {"step": "credential"}
    answers = await asyncio.gather(
        *(http.post(RETRY, json=body, headers=OPERATOR) for _ in range(3))
    )
    assert sum(answer.json()["count"] for answer in answers) == 20


@pytest.mark.parametrize(
    ("who", "body", "status"),
    [
        ("", {"step": "hr"}, 401),
        ("viewer", {"step": "hr"}, 403),
        ("learner:ada", {"step": "hr"}, 403),
        ("operator", {}, 422),
        ("operator", {"step": "credentials"}, 422),
        ("operator", {"step": "hr", "status": "completed"}, 422),
        ("operator", {"step": "hr", "dryrun": True}, 422),
    ],
)
async def test_only_operators_retry_and_only_what_is_named(
    http: httpx.AsyncClient, who: str, body: dict[str, Any], status: int
) -> None:
    assert (await http.post(RETRY, json=body, headers=as_(who))).status_code == status


async def test_steps_are_counted_by_status_with_the_oldest_outstanding_one(
    school: School,
) -> None:
    async def count() -> StepCounts:
        async with school.db.read() as tx:
            return await school.completions.count_steps(tx)

    nothing = {"waiting": 0, "completed": 0, "failed": 0, "skipped": 0}
    assert await count() == StepCounts({"credential": nothing, "hr": nothing}, {})
    made = []
    for user in ("ada", "bob", "cyd", "dan"):
        made += await school.complete(user)
    await school.end(made[:1], "state = 'completed', finished_at = 5")
    await school.fail(made[1:2])
    found = await count()
    assert found.by_step["credential"] == {**nothing, "completed": 1, "failed": 1, "waiting": 2}
    assert found.by_step["hr"] == {**nothing, "skipped": 4}
    assert found.outstanding_since == {"credential": made[1].recorded_at}


async def test_lists_and_counts_of_steps_read_the_index_of_steps(sqlite: SqliteDatabase) -> None:
    async with sqlite.read() as tx:
        for sql in (
            "SELECT DISTINCT completion_id FROM completion_step WHERE name = 'a' AND status = 'b'"
            " ORDER BY completion_id DESC LIMIT 10",
            "SELECT status, name, COUNT(*), MIN(completion_id) FROM completion_step"
            " GROUP BY status, name",
        ):
            plan = " ".join(str(row[3]) for row in await tx.fetch(f"EXPLAIN QUERY PLAN {sql}"))
            assert "COVERING INDEX ix_completion_step_status_name_completion_id" in plan
            assert "TEMP B-TREE" not in plan
