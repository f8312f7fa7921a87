"""Achievements: awarded once, to whom they are due, and shown with what is next."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from tests.support.api_client import as_
from tests.support.badge_school import COMPLETED_AT, BadgeSchool, badge_school

from homeroom.achievements.api import Achievements, Award
from homeroom.bootstrap.personal_data import PERSONAL_DATA
from homeroom.completion import recording
from homeroom.completion.api import NewCompletion
from homeroom.credentials.open_badges.badge_document import IssuerProfile
from homeroom.db.database import Database
from homeroom.db.postgres.database import PostgresDatabase
from homeroom.db.tx import Tx

pytestmark = [pytest.mark.anyio, pytest.mark.service]
ADA, BEN, AUTHOR = as_("learner:ada"), as_("learner:ben"), as_("author")
OPERATOR, VIEWER = as_("operator"), as_("viewer")
RULES = "/api/v1/achievement-rules"
FIRST = {"title": "First course", "condition": {"type": "courses"}}
TWO = {"title": "Two courses", "condition": {"type": "courses", "count": 2}}


@pytest.fixture
async def school(db: Database) -> AsyncIterator[BadgeSchool]:
    async with badge_school(db) as built:
        yield built


async def put(school: BadgeSchool, id: str, **rule: Any) -> int:
    answer = await school.http.put(f"{RULES}/{id}", headers=AUTHOR, json=rule)
    assert answer.status_code in (200, 201), answer.text
    assert answer.json()["id"] == id
    return answer.status_code


async def award(school: BadgeSchool, id: str, *, dry_run: bool = False) -> list[str]:
    answer = await school.http.post(
        f"{RULES}/{id}/award", headers=OPERATOR, json={"dryRun": dry_run}
    )
    assert answer.status_code == 200, answer.text
    assert (answer.json()["dryRun"], answer.json()["nextAfter"]) == (dry_run, None)
    return [each["userId"] for each in answer.json()["items"]]


async def achievements(school: BadgeSchool, who: dict[str, str] = ADA) -> tuple[list[Any], ...]:
    answer = await school.http.get("/api/v1/achievements", headers=who)
    assert answer.status_code == 200, answer.text
    return answer.json()["awarded"], answer.json()["next"]


async def test_completions_award_what_they_reach_and_show_what_is_next(
    school: BadgeSchool,
) -> None:
    courses = {id: await school.publish(id) for id in ("a", "b", "c")}
    await put(school, "first", **FIRST)
    await put(school, "two", **TWO)
    await put(school, "sharp", title="Sharp", condition={"type": "score", "minimum": 0.9})
    await put(
        school, "path", title="Path", condition={"type": "path", "courseIds": ["c", "a", "b"]}
    )
    assert [each["ruleId"] for each in (await achievements(school))[1]] == [
        "first", "path", "sharp", "two",
    ]  # fmt: skip
    first = await school.complete(courses["a"])
    await school.kernel.run_jobs()
    awarded, following = await achievements(school)
    assert [each["ruleId"] for each in awarded] == ["first"]
    assert [(each["ruleId"], each["done"], each["required"]) for each in following] == [
        ("two", 1, 2),
        ("path", 1, 3),
        ("sharp", 0, 1),
    ]
    assert following[1]["missingCourseIds"] == ["c", "b"]
    await school.complete(courses["a"], attempt=2, completed_at=COMPLETED_AT + 1, score=9_000)
    await school.complete(courses["b"], completed_at=COMPLETED_AT + 2, score=None)
    await school.complete(courses["c"], completed_at=COMPLETED_AT + 3)
    await school.kernel.run_jobs()
    awarded, following = await achievements(school)
    assert [each["ruleId"] for each in awarded] == ["path", "two", "sharp", "first"]
    assert awarded[3]["achievedAt"] == "2026-11-22T09:00:00.123456Z"
    assert following == []
    holders = (await school.http.get(f"{RULES}/first/awards", headers=VIEWER)).json()["items"]
    assert [(each["userId"], each["completionId"]) for each in holders] == [("ada", first)]
    assert await achievements(school, BEN) == ([], (await achievements(school, BEN))[1])
    assert len((await achievements(school, BEN))[1]) == 4


async def test_an_achievement_is_awarded_once_by_however_many_workers(
    school: BadgeSchool,
) -> None:
    courses = [await school.publish(f"c{number}") for number in range(4)]
    await put(school, "two", **TWO)
    for course in courses:
        await school.complete(course)
    async with school.kernel.worker(), school.kernel.worker():
        runs = await asyncio.gather(*(school.achievements.award("two", "test") for _ in range(3)))
        await school.kernel.run_jobs()
    async with school.db.read() as tx:
        rows = await tx.fetch("SELECT id, user_id, rule_id FROM achievement_award")
        jobs = await tx.fetch(
            "SELECT state, result FROM job WHERE kind = 'achievements.award' ORDER BY id"
        )
    [(id, user_id, rule_id)] = rows
    assert (user_id, rule_id) == ("ada", "two")
    assert [state for state, _ in jobs] == ["completed"] * 4
    by_runs = [each.id for run in runs for each in run.awards]
    by_jobs = sum('"two"' in result for _, result in jobs)
    assert len(by_runs) + by_jobs == 1
    assert by_runs in ([], [id])


async def test_a_rule_that_is_archived_meanwhile_awards_nothing(
    school: BadgeSchool, monkeypatch: pytest.MonkeyPatch
) -> None:
    course = await school.publish("a")
    await put(school, "first", **FIRST)
    found = Achievements._find_reached

    async def find_and_archive(self: Achievements, tx: Tx, completion_id: str) -> list[Award]:
        awards = await found(self, tx, completion_id)
        answer = await school.http.delete(f"{RULES}/first", headers=AUTHOR)
        assert answer.status_code in (204, 404)
        return awards

    monkeypatch.setattr(Achievements, "_find_reached", find_and_archive)
    await school.complete(course)
    await school.kernel.run_jobs()
    assert await achievements(school) == ([], [])
    async with school.db.read() as tx:
        jobs = await tx.fetch("SELECT state, result FROM job WHERE kind = 'achievements.award'")
    assert jobs == [("completed", '{"awarded":[]}')]


async def test_a_new_rule_says_whom_it_awards_and_takes_nothing_back(
    school: BadgeSchool,
) -> None:
    course, other = await school.publish("a"), await school.publish("b")
    for user_id in ("ada", "ben"):
        await school.complete(course, user_id)
    await school.complete(other, "ben")
    await school.kernel.run_jobs()
    async with school.db.read() as tx:
        # Without a rule no completion costs a job.
        assert await tx.fetch("SELECT 1 FROM job WHERE kind = 'achievements.award'") == []
    preview = await school.http.post(f"{RULES}/first/preview", headers=VIEWER, json={"rule": TWO})
    assert [each["userId"] for each in preview.json()["items"]] == ["ben"]
    assert (await school.http.get(RULES, headers=VIEWER)).json()["items"] == []
    assert await put(school, "first", **FIRST) == 201
    assert await put(school, "first", **FIRST) == 200
    assert await award(school, "first", dry_run=True) == ["ada", "ben"]
    assert await award(school, "first") == ["ada", "ben"]
    assert await award(school, "first") == []
    assert await put(school, "first", **TWO) == 200
    assert await award(school, "first") == []
    [kept] = (await achievements(school))[0]
    assert kept["title"] == "First course"
    for status in (204, 404):
        deleted = await school.http.delete(f"{RULES}/first", headers=AUTHOR)
        assert deleted.status_code == status
    assert await achievements(school) == ([kept], [])
    refused = await school.http.post(f"{RULES}/first/award", headers=OPERATOR, json={})
    assert refused.status_code == 404
    assert await put(school, "first", **FIRST) == 201
    rule = (await school.http.get(f"{RULES}/first", headers=VIEWER)).json()
    assert (rule["version"], rule["condition"]) == (3, {"type": "courses", "count": 1,
                                                        "courseIds": None})  # fmt: skip


async def test_an_award_run_goes_on_page_by_page(
    school: BadgeSchool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("homeroom.achievements.api.AWARD_PAGE", 2)
    course = await school.publish()
    for number in range(5):
        await school.complete(course, f"user-{number}")
    await put(school, "first", **FIRST)
    found, after = [], None
    while True:
        run = await school.achievements.award("first", "test", after)
        assert len(run.awards) <= 2
        found += [each.user_id for each in run.awards]
        after = run.after
        if after is None:
            break
    assert found == [f"user-{number}" for number in range(5)]


async def test_a_faulty_rule_is_refused(school: BadgeSchool) -> None:
    for rule in (
        {"title": "", "condition": {"type": "courses"}},
        {"title": "T", "condition": {"type": "courses", "count": 2, "courseIds": ["a"]}},
        {"title": "T", "condition": {"type": "path", "courseIds": ["unpublished"]}},
        {"title": "T", "condition": {"type": "score", "minimum": "0.9"}},
        {**FIRST, "points": 5},
    ):
        answer = await school.http.put(f"{RULES}/x", headers=AUTHOR, json=rule)
        assert answer.status_code == 422, (rule, answer.text)
    assert (await school.http.get(RULES, headers=VIEWER)).json()["items"] == []


async def test_roles_decide_who_writes_rules_awards_and_reads(school: BadgeSchool) -> None:
    await put(school, "first", **FIRST)
    http, calls = school.http, [
        ("PUT", f"{RULES}/first", FIRST, {"author", "service", "admin"}),
        ("POST", f"{RULES}/first/award", {}, {"operator", "service", "admin"}),
        ("POST", f"{RULES}/first/preview", {"rule": FIRST},
         {"operator", "viewer", "service", "admin"}),
        ("GET", f"{RULES}/first/awards", None,
         {"operator", "viewer", "service", "admin"}),
        ("GET", RULES, None, {"author", "manager", "operator", "viewer", "service", "admin"}),
    ]  # fmt: skip
    roles = ("learner:ada", "facilitator:ada", "author", "manager", "operator", "viewer",
             "service", "admin")  # fmt: skip
    for method, path, body, allowed in calls:
        for role in roles:
            answer = await http.request(method, path, headers=as_(role), json=body)
            expected = 200 if role in allowed else 403
            assert answer.status_code == expected, (method, path, role)
    other = await http.get("/api/v1/achievements?userId=ada", headers=BEN)
    assert other.status_code == 403


async def test_an_erased_learner_leaves_no_award_and_no_job(school: BadgeSchool) -> None:
    course = await school.publish()
    await put(school, "first", **FIRST)
    for user_id in ("ada", "ben"):
        await school.complete(course, user_id)
    await school.kernel.run_jobs()
    exported = (await PERSONAL_DATA.export(school.db, "ada", "test"))["records"]
    assert [row["rule_id"] for row in exported["achievement_award"]] == ["first"]
    await PERSONAL_DATA.erase(school.db, "ada", "test")
    async with school.db.read() as tx:
        rows = await tx.fetch("SELECT user_id FROM achievement_award")
        jobs = await tx.fetch("SELECT id FROM job WHERE kind = 'achievements.award'")
    assert rows == [("ben",)]
    assert len(jobs) == 1


async def test_an_achievement_is_a_credential_where_its_rule_says_so(school: BadgeSchool) -> None:
    course = await school.publish()
    await put(school, "plain", **FIRST)
    await put(school, "signed", **FIRST, credential=True)
    await school.complete(course)
    await school.kernel.run_jobs()
    signed, plain = (await achievements(school))[0]
    assert (plain["ruleId"], plain["credential"]) == ("plain", None)
    credential = signed["credential"]
    assert (credential["awardId"], credential["state"]) == (signed["id"], "issued")
    assert (credential["courseId"], credential["completionId"]) == (None, None)
    path = f"/credentials/{credential['id']}"
    assert credential["url"].endswith(path)
    document = (await school.http.get(f"{path}.json")).json()
    achieved = document["credentialSubject"]["achievement"]
    assert (achieved["achievementType"], achieved["name"]) == ("Achievement", "First course")
    assert achieved["criteria"]["narrative"] == "Complete 1 course."
    check = await school.http.get(f"{path}/verification")
    assert "This credential is genuine and holds today." in check.text
    assert "Achieved on" in check.text
    listed = (await school.http.get("/api/v1/credentials", headers=ADA)).json()["items"]
    assert len(listed) == 2  # that of the course stays as it is
    body = {"reason": "a mistake"}
    revoke = f"/api/v1/credentials/{credential['id']}/revoke"
    assert (await school.http.post(revoke, headers=OPERATOR, json=body)).status_code == 200
    again = f"/api/v1/credentials/{credential['id']}/reissue"
    for status in (202, 409):
        assert (await school.http.post(again, headers=OPERATOR)).status_code == status
    await school.kernel.run_jobs()
    new = (await achievements(school))[0][0]["credential"]
    assert (new["state"], new["awardId"]) == ("issued", signed["id"])
    assert new["id"] != credential["id"]


async def test_an_achievement_waits_for_a_public_address_to_be_signed(db: Database) -> None:
    profile = IssuerProfile("http://127.0.0.1:1", "School", None, None)
    async with badge_school(db, profile=profile) as school:
        await put(school, "signed", **FIRST, credential=True)
        id = await school.complete(await school.publish())
        await school.kernel.run_jobs()
        [awarded] = (await achievements(school))[0]
        job = await school.kernel.job(f"{awarded['id']}.credential")
        assert (awarded["credential"], job.state) == (None, "failed")
        assert "HOMEROOM_PUBLIC_URL" in str(job.last_error)
        async with db.read() as tx:
            [(outstanding,)] = await tx.fetch("SELECT outstanding FROM job WHERE id = ?", (job.id,))
        assert outstanding == 1
        assert (await school.step(id)).skip_code == "public_url_not_https"


async def test_an_award_run_waits_for_completions_that_have_not_seen_the_rule(
    postgresql: PostgresDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    waiting, wait = asyncio.Event(), recording.wait_for_earlier_transactions

    async def note(db: Database, number: int, seconds: float) -> bool:
        waiting.set()
        return await wait(db, number, seconds)

    monkeypatch.setattr(recording, "wait_for_earlier_transactions", note)
    async with badge_school(postgresql) as school:
        new = NewCompletion("ada", await school.publish(), 1, COMPLETED_AT, None, 60, ())
        async with postgresql.write() as tx:
            await school.completions.record(tx, [new])
            await put(school, "first", **FIRST)
            run = asyncio.create_task(school.achievements.award("first", "test"))
            await waiting.wait()
        assert [each.user_id for each in (await run).awards] == ["ada"]
        async with postgresql.read() as tx:
            jobs = await tx.fetch("SELECT 1 FROM job WHERE kind = 'achievements.award'")
        assert jobs == []  # the run alone has found the learner
