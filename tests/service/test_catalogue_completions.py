"""Completions: recorded once, with steps that follow their jobs, and routes."""

from __future__ import annotations

import csv
import io
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any, ClassVar

import anyio
import httpx
import pytest
from tests.support.api_client import AUTH, as_, client

from homeroom.catalogue import api as catalogue
from homeroom.catalogue.api import Catalogue, Course, Enrolment
from homeroom.completion import csv_report, routes
from homeroom.completion.api import (
    ChapterRecord,
    Completion,
    Completions,
    CompletionStep,
    NewCompletion,
    SkipReason,
    StepArgs,
)
from homeroom.db.database import Database
from homeroom.db.sqlite.database import SqliteDatabase
from homeroom.errors import Conflict
from homeroom.jobs import api as jobs
from homeroom.jobs.engine import SqlEngine
from homeroom.jobs.job_actions import prune
from homeroom.jobs.worker import Worker
from homeroom.people import api as people
from homeroom.people.api import Person

pytestmark = pytest.mark.anyio
OPERATOR = as_("operator")


class IssueTest(StepArgs, frozen=True, kw_only=True):
    kind: ClassVar[str] = "credential.test"
    queue: ClassVar[str] = "credentials"
    priority: ClassVar[int] = jobs.HIGH
    max_retries: ClassVar[int] = 0


class SendTest(StepArgs, frozen=True, kw_only=True):
    kind: ClassVar[str] = "analytics.test"
    queue: ClassVar[str] = "dispatch"


class ReportTest(StepArgs, frozen=True, kw_only=True):
    kind: ClassVar[str] = "hr.test"
    queue: ClassVar[str] = "dispatch"


class Switches:
    """Settings of the steps' ``skip`` and the handlers, which tests change."""

    skip_credential: str | None = None
    error: str | None = None


@pytest.fixture
def switches() -> Switches:
    return Switches()


@pytest.fixture
def completions(switches: Switches) -> Completions:
    def skip(completion: Completion, course: Course) -> SkipReason | None:
        assert completion.course_id == course.id
        text = switches.skip_credential
        return None if text is None else SkipReason("credentials_disabled", text)

    return Completions(
        [
            CompletionStep("credential", lambda id: IssueTest(completion_id=id), skip),
            CompletionStep("analytics", lambda id: SendTest(completion_id=id)),
            CompletionStep("hr", lambda id: ReportTest(completion_id=id)),
        ]
    )


@pytest.fixture
async def course(db: Database) -> Course:
    body = {"title": "=Safety", "units": [{"id": "u", "title": "U", "chapters": [
        {"id": "a", "title": "A"}]}]}  # fmt: skip
    async with db.write() as tx:
        return (await Catalogue().publish(tx, "safety", body)).course


@pytest.fixture
async def http(db: Database, completions: Completions) -> AsyncIterator[httpx.AsyncClient]:
    async with client(routes.router(db, AUTH, completions)) as opened:
        yield opened


def crossing(
    course: Course, user: str = "ada", attempt: int = 1, at: int = 1_000_000
) -> NewCompletion:
    chapters = (ChapterRecord("a", 10_000, 60, True),)
    return NewCompletion(user, course, attempt, at, 0, 60, chapters)


async def record(
    db: Database, completions: Completions, *crossings: NewCompletion
) -> list[Completion]:
    async with db.write() as tx:
        new = [
            Enrolment(each.user_id, each.course.id, each.attempt, 1, "in_progress", 1, 0)
            for each in crossings
        ]
        await catalogue.add_enrolments(tx, new)
        return await completions.record(tx, crossings)


async def rows(db: Database, sql: str) -> list[tuple[Any, ...]]:
    async with db.read() as tx:
        return await tx.fetch(sql)


async def test_a_course_is_completed_once_however_often_it_is_found(
    db: Database, completions: Completions, course: Course
) -> None:
    made: list[Completion] = []

    async def find(at: int) -> None:
        made.extend(await record(db, completions, crossing(course, at=at)))

    async with anyio.create_task_group() as tasks:
        for at in range(1, 9):
            tasks.start_soon(find, at)
    assert len(made) == 1
    assert await record(db, completions, crossing(course, at=99), crossing(course, at=98)) == []
    async with db.read() as tx:
        assert await completions.find(tx, "ada", "safety") == made[0]
        (enrolment,) = (await catalogue.enrolments(tx, [("ada", "safety")]))[("ada", "safety")]
    assert (enrolment.status, enrolment.completed_at) == ("completed", made[0].completed_at)
    assert await rows(db, "SELECT COUNT(*) FROM job") == [(3,)]
    assert await rows(db, "SELECT COUNT(*) FROM completion_step") == [(3,)]


async def test_one_completion_twice_in_a_batch_is_recorded_once(
    db: Database, completions: Completions, course: Course
) -> None:
    made = await record(
        db, completions, crossing(course, at=5), crossing(course, at=9), crossing(course, "bob")
    )
    assert [(each.user_id, each.completed_at) for each in made] == [("ada", 5), ("bob", 1_000_000)]
    assert await rows(db, "SELECT COUNT(*) FROM job") == [(6,)]


async def test_the_jobs_of_a_completion_are_independent_and_have_their_priorities(
    db: Database, completions: Completions, course: Course
) -> None:
    (made,) = await record(db, completions, crossing(course))
    assert await rows(db, "SELECT id, priority, state, deps_pending FROM job ORDER BY seq") == [
        (f"{made.id}.credential", 10, "waiting", 0),
        (f"{made.id}.analytics", 5, "waiting", 0),
        (f"{made.id}.hr", 5, "waiting", 0),
    ]


async def test_a_failed_transaction_leaves_nothing_of_a_completion(
    db: Database, completions: Completions, course: Course
) -> None:
    async def fail() -> None:
        async with db.write() as tx:
            assert await completions.record(tx, [crossing(course)])
            raise RuntimeError("the commit never comes")

    with pytest.raises(RuntimeError, match="never comes"):
        await fail()
    for table in ("completion", "completion_step", "job"):
        assert await rows(db, f"SELECT COUNT(*) FROM {table}") == [(0,)]


async def test_a_disabled_step_is_skipped_with_its_reason_and_has_no_job(
    db: Database,
    completions: Completions,
    course: Course,
    switches: Switches,
    http: httpx.AsyncClient,
) -> None:
    switches.skip_credential = "ENABLE_CREDENTIALS is false"
    (made,) = await record(db, completions, crossing(course))
    url = f"/api/v1/completions/{made.id}"
    step = (await http.get(url, headers=OPERATOR)).json()["steps"][0]
    assert (step["status"], step["skipReason"], step["jobId"]) == (
        "skipped",
        "ENABLE_CREDENTIALS is false",
        None,
    )
    assert step["skipCode"] == "credentials_disabled"
    assert await rows(db, "SELECT COUNT(*) FROM job") == [(2,)]
    refused = await http.post(f"{url}/steps/credential/retry", headers=OPERATOR)
    assert refused.status_code == 409
    switches.skip_credential = None
    again = await http.post(f"{url}/steps/credential/retry", headers=OPERATOR)
    assert again.status_code == 200
    assert again.json()["steps"][0]["status"] == "waiting"
    assert again.json()["steps"][0]["jobId"] == f"{made.id}.credential"
    assert await rows(db, "SELECT COUNT(*) FROM job") == [(3,)]
    noted = await rows(db, "SELECT action, subject, details FROM audit")
    assert noted == [("step.retried", made.id, '{"step":"credential"}')]  # the refused one is not


async def test_a_later_attempt_supersedes_the_earlier_completion(
    db: Database, completions: Completions, course: Course
) -> None:
    (first,) = await record(db, completions, crossing(course))
    (second,) = await record(db, completions, crossing(course, attempt=2, at=2_000_000))
    async with db.read() as tx:
        assert (await completions.get(tx, first.id)).superseded_by == second.id
        assert await completions.find(tx, "ada", "safety") == second
        found = await completions.find(tx, "ada", "safety", 1)
        assert found is not None
        assert (found.id, found.completed_at) == (first.id, 1_000_000)
        assert await completions.completed_courses(tx, "ada") == {"safety"}


async def test_a_note_changes_no_date_and_runs_nothing_again(
    db: Database, completions: Completions, course: Course, http: httpx.AsyncClient
) -> None:
    (made,) = await record(db, completions, crossing(course))
    async with db.write() as tx:
        await completions.add_note(tx, made.id, "event e1 of 1970-01-01 proves it earlier")
    found = (await http.get(f"/api/v1/completions/{made.id}", headers=OPERATOR)).json()
    assert found["completedAt"] == "1970-01-01T00:00:01.000000Z"
    assert [note["text"] for note in found["notes"]] == ["event e1 of 1970-01-01 proves it earlier"]
    assert await rows(db, "SELECT COUNT(*) FROM job") == [(3,)]


async def test_each_step_follows_its_own_job(
    db: Database,
    completions: Completions,
    course: Course,
    switches: Switches,
    http: httpx.AsyncClient,
) -> None:
    running, go_on = anyio.Event(), anyio.Event()
    switches.error = "no e-mail address"

    async def issue(context: jobs.JobContext, args: IssueTest) -> jobs.Outcome:
        if switches.error is not None:
            return jobs.Fail(switches.error)
        return jobs.Done({"externalId": "badge-1"})

    async def send(context: jobs.JobContext, args: SendTest) -> jobs.Outcome:
        running.set()
        await go_on.wait()
        return jobs.Done()

    async def report_hr(context: jobs.JobContext, args: ReportTest) -> jobs.Outcome:
        return jobs.Done({"skipped": "HOMEROOM_HR_URL is not set", "skipCode": "no_url"})

    registry = jobs.Registry()
    registry.add(IssueTest, issue, completions.step_updater("credential"))
    registry.add(SendTest, send, completions.step_updater("analytics"))
    registry.add(ReportTest, report_hr, completions.step_updater("hr"))
    (made,) = await record(db, completions, crossing(course))
    url = f"/api/v1/completions/{made.id}"

    changes: set[anyio.Event] = set()

    def tell(topics: object) -> None:
        for each in changes:
            each.set()

    db.subscribe(tell)

    async def until(name: str, status: str) -> dict[str, Any]:
        while True:  # every change of a step is notified after its commit
            changed = anyio.Event()
            changes.add(changed)
            found = (await http.get(url, headers=OPERATOR)).json()
            step: dict[str, Any] = next(s for s in found["steps"] if s["name"] == name)
            if step["status"] == status:
                return step
            await changed.wait()
            changes.discard(changed)

    worker = Worker(db, registry, SqlEngine(), poll=timedelta(milliseconds=20))
    with anyio.fail_after(20):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(worker.run)
            await running.wait()
            failed = await until("credential", "failed")
            assert (failed["lastError"], failed["attempts"]) == ("no e-mail address", 1)
            assert failed["finishedAt"] is not None
            assert (await until("analytics", "active"))["finishedAt"] is None
            skipped = await until("hr", "skipped")
            assert skipped["skipReason"] == "HOMEROOM_HR_URL is not set"
            assert skipped["skipCode"] == "no_url"
            switches.error = None
            retried = await http.post(f"{url}/steps/credential/retry", headers=OPERATOR)
            assert retried.status_code == 200
            issued = await until("credential", "completed")
            assert (issued["externalId"], issued["lastError"]) == ("badge-1", None)
            done_already = await http.post(f"{url}/steps/credential/retry", headers=OPERATOR)
            assert done_already.status_code == 409
            go_on.set()
            await until("analytics", "completed")
            worker.stop()
    async with db.write() as tx:  # a replaced job no longer decides the state of its step
        job = (await jobs.find(tx, [f"{made.id}.hr"]))[f"{made.id}.hr"]
        await completions.retry_step(tx, made.id, "hr")
        await completions.step_updater("hr")(tx, job, ReportTest(completion_id=made.id))
        again = (await completions.list_steps(tx, [made.id]))[made.id][2]
        assert (again.status, again.job_id) == ("waiting", f"{made.id}.hr.2")
        with pytest.raises(Conflict):
            await completions.retry_step(tx, made.id, "hr")


async def test_a_failed_step_whose_job_was_pruned_gets_a_new_one(
    db: Database, completions: Completions, course: Course
) -> None:
    (made,) = await record(db, completions, crossing(course))
    async with db.write() as tx:
        job_id = f"{made.id}.hr"
        await jobs.cancel(tx, None, job_id)
        job = (await jobs.find(tx, [job_id]))[job_id]
        await completions.step_updater("hr")(tx, job, ReportTest(completion_id=made.id))
        await prune(tx, [job_id])  # as an earlier release did
        await completions.retry_step(tx, made.id, "hr")
        step = (await completions.list_steps(tx, [made.id]))[made.id][2]
    assert (step.status, step.job_id, step.attempts) == ("waiting", f"{made.id}.hr.2", 0)


async def test_completions_are_listed_newest_first_and_filtered(
    db: Database, completions: Completions, course: Course, http: httpx.AsyncClient
) -> None:
    ids = []
    for number in range(5):
        (made,) = await record(db, completions, crossing(course, f"u{number}"))
        ids.insert(0, made.id)
    found: list[dict[str, Any]] = []
    params: dict[str, Any] = {"limit": 2}
    while True:
        page = (await http.get("/api/v1/completions", params=params, headers=OPERATOR)).json()
        found += page["items"]
        if page["nextCursor"] is None:
            break
        params["cursor"] = page["nextCursor"]
    assert [item["id"] for item in found] == ids
    assert found[0]["score"] == 0
    assert [step["name"] for step in found[0]["steps"]] == ["credential", "analytics", "hr"]
    for wanted, count in (
        ({"userId": "u3"}, 1),
        ({"courseId": "safety"}, 5),
        ({"courseId": "other"}, 0),
        ({"since": found[1]["recordedAt"]}, 2),
        ({"since": "2999-01-01T00:00:00Z"}, 0),
    ):
        page = (await http.get("/api/v1/completions", params=wanted, headers=OPERATOR)).json()
        assert len(page["items"]) == count, wanted
    for wrong in ({"since": "yesterday"}, {"since": "2026-01-01T00:00:00"}, {"userId": "\x00"}):
        answer = await http.get("/api/v1/completions", params=wrong, headers=OPERATOR)
        assert answer.status_code == 422, wrong


async def test_a_learner_sees_only_their_own_completions(
    db: Database, completions: Completions, course: Course, http: httpx.AsyncClient
) -> None:
    (ada, _) = await record(db, completions, crossing(course), crossing(course, "bob"))
    own = (await http.get("/api/v1/completions", headers=as_("learner:ada"))).json()
    assert [item["userId"] for item in own["items"]] == ["ada"]
    seen = (await http.get("/api/v1/completions?userId=ada", headers=OPERATOR)).json()["items"][0]
    for mine, theirs in zip(own["items"][0]["steps"], seen["steps"], strict=True):
        assert (mine["name"], mine["status"]) == (theirs["name"], theirs["status"])
        assert (mine["lastError"], mine["skipReason"], mine["jobId"]) == (None, None, None)
    assert any(step["skipReason"] or step["jobId"] for step in seen["steps"])
    url = f"/api/v1/completions/{ada.id}"
    for who, status in (("learner:ada", 200), ("learner:bob", 404), ("author", 403), ("", 401)):
        assert (await http.get(url, headers=as_(who))).status_code == status, who
    others = {"userId": "ada"}
    bob = await http.get("/api/v1/completions", params=others, headers=as_("learner:bob"))
    assert bob.status_code == 403
    key = await http.get("/api/v1/completions", headers=as_("learner"))
    assert key.status_code == 403
    assert (await http.get(f"{url}x", headers=OPERATOR)).status_code == 404
    for who, status in (("viewer", 403), ("learner:ada", 403), ("", 401)):
        answer = await http.post(f"{url}/steps/hr/retry", headers=as_(who))
        assert answer.status_code == status, who
    assert (await http.post(f"{url}/steps/hr/retry", headers=OPERATOR)).status_code == 409
    assert (await http.post(f"{url}/steps/nope/retry", headers=OPERATOR)).status_code == 404


async def test_the_report_streams_every_completion_of_a_period_page_by_page(
    db: Database,
    completions: Completions,
    course: Course,
    http: httpx.AsyncClient,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(csv_report, "ROWS_PER_READ", 2)
    day = 86_400_000_000
    users = ["=cmd()", "u1", "u2", "u3", "u4", "u5"]
    await record(
        db,
        completions,
        *(crossing(course, user, at=number // 2 * day) for number, user in enumerate(users)),
    )
    url = "/api/v1/reports/completions.csv"
    answer = await http.get(url, headers=OPERATOR)
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    assert answer.content.startswith(b"\xef\xbb\xbf")  # Excel reads UTF-8 by it
    read = list(csv.DictReader(io.StringIO(answer.content.decode("utf-8-sig"))))
    assert {row["userId"] for row in read} == {"'=cmd()", "u1", "u2", "u3", "u4", "u5"}
    assert len(read) == 6
    assert read[0]["courseTitle"] == "'=Safety"
    assert (read[0]["score"], read[0]["hrStatus"]) == ("0", "waiting")
    async with db.write() as tx:
        await people.put(tx, Person("u3", None, "U", "Three", manager_id="mira"))
    answer = await http.get(url, headers=as_("manager:mira"))
    read = list(csv.DictReader(io.StringIO(answer.content.decode("utf-8-sig"))))
    assert [row["userId"] for row in read] == ["u3"]
    params = {"from": "1970-01-02", "to": "1970-01-02"}
    one_day = await http.get(url, params=params, headers=OPERATOR)
    rows = csv.DictReader(io.StringIO(one_day.content.decode("utf-8-sig")))
    days = [row["completedAt"][:10] for row in rows]
    assert days == ["1970-01-02", "1970-01-02"]
    wrong = await http.get(url, params={"from": "soon"}, headers=OPERATOR)
    assert wrong.status_code == 422
    assert (await http.get(url, headers=as_("learner:ada"))).status_code == 403
    assert (await http.get(url)).status_code == 401


async def test_the_lists_are_read_from_an_index(sqlite: SqliteDatabase) -> None:
    async with sqlite.read() as tx:
        for sql in (
            "SELECT * FROM completion ORDER BY recorded_at DESC, id DESC LIMIT 10",
            "SELECT * FROM completion WHERE course_id = 'x'"
            " ORDER BY recorded_at DESC, id DESC LIMIT 10",
            "SELECT * FROM completion WHERE completed_at >= 5 ORDER BY completed_at, id LIMIT 10",
        ):
            plan = [str(row[3]) for row in await tx.fetch(f"EXPLAIN QUERY PLAN {sql}")]
            assert "INDEX" in plan[0], plan
            assert not any("TEMP B-TREE" in line for line in plan), plan
