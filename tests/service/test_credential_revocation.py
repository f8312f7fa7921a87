"""Revocation of many credentials, and the new issue of a revoked one."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from tests.support.api_client import as_
from tests.support.badge_school import COMPLETED_AT, BadgeSchool, badge_school
from tests.support.partner_school import School, running_sandbox
from tests.support.partner_school import school as partner_school

from homeroom.credentials.api import CredentialSelection
from homeroom.db.database import Database
from homeroom.errors import Conflict

pytestmark = [pytest.mark.anyio, pytest.mark.service]
OPERATOR = as_("operator")


@pytest.fixture
async def school(db: Database) -> AsyncIterator[BadgeSchool]:
    async with badge_school(db) as built:
        yield built


async def post(school: BadgeSchool, path: str, body: Any = None, status: int = 200) -> Any:
    answer = await school.http.post(f"/api/v1/credentials/{path}", json=body, headers=OPERATOR)
    assert answer.status_code == status, answer.text
    return answer.json()


async def states(school: BadgeSchool) -> dict[str, str]:
    async with school.db.read() as tx:
        rows = await tx.fetch("SELECT user_id, state FROM credential ORDER BY issue")
    return dict(rows)


async def test_a_dry_run_lists_and_a_run_revokes_what_is_selected(school: BadgeSchool) -> None:
    for user in ("ada", "bo", "cleo"):
        await school.issue(user)
    body = {"reason": "wrong template", "courseId": "data", "dryRun": True}
    listed = await post(school, "revoke", body)
    assert {each["userId"] for each in listed["items"]} == {"ada", "bo", "cleo"}
    assert listed["dryRun"] is True
    assert set((await states(school)).values()) == {"issued"}
    one = next(each["id"] for each in listed["items"] if each["userId"] == "bo")
    done = await post(school, "revoke", {"reason": "his own", "credentialIds": [one]})
    assert [each["id"] for each in done["items"]] == [one]
    assert (await states(school)) == {"ada": "issued", "bo": "revoked", "cleo": "issued"}
    rest = await post(school, "revoke", body | {"dryRun": False})
    assert len(rest["items"]) == 2
    assert set((await states(school)).values()) == {"revoked"}
    assert (await post(school, "revoke", body))["items"] == []
    await post(school, "revoke", {"reason": "all of them?"}, status=422)
    async with school.db.read() as tx:
        actions = await tx.fetch(
            "SELECT actor, details FROM audit WHERE action = ?", ("credential.revoked",)
        )
    assert len(actions) == 3
    assert all("reason" in details for _, details in actions)


async def test_pages_of_a_selection_follow_one_another(school: BadgeSchool) -> None:
    for user in ("ada", "bo", "cleo"):
        await school.issue(user)
    selection, after, count = CredentialSelection(course_id="data"), None, 0
    while True:
        page = await school.credentials.revoke_selected(
            selection, "why", "test", after=after, count=2
        )
        count += len(page.revoked)
        after = page.after
        if after is None:
            break
    assert count == 3


async def test_only_what_was_issued_since_is_revoked(school: BadgeSchool) -> None:
    old = await school.issue("ada")
    selection = CredentialSelection(course_id="data", issued_since=old.created_at + 1)
    assert (await school.credentials.revoke_selected(selection, "why", "test")).revoked == []


async def test_a_revoked_credential_is_issued_anew_under_another_id(school: BadgeSchool) -> None:
    first = await school.issue()
    await post(school, f"{first.id}/reissue", status=409)
    await post(school, f"{first.id}/revoke", {"reason": "wrong name"})
    new = await post(school, f"{first.id}/reissue", status=202)
    await post(school, f"{first.id}/reissue", status=409)
    await post(school, "none/reissue", status=404)
    assert (await school.step(first.completion_id)).status == "waiting"
    await school.kernel.run_jobs()
    step = await school.step(first.completion_id)
    assert (step.status, step.external_id) == ("completed", new["id"])
    async with school.db.read() as tx:
        found = await school.credentials.list_by_completions(tx, [first.completion_id])
        assert await school.credentials.find_url(tx, first.completion_id) is not None
    latest = found[first.completion_id]
    assert (latest.id, latest.state, latest.issue) == (new["id"], "issued", 2)
    assert latest.issued_at == COMPLETED_AT
    assert "Revoked" in (await school.http.get(f"/credentials/{first.id}")).text
    assert "Valid" in (await school.http.get(f"/credentials/{latest.id}")).text
    await school.kernel.run_jobs()
    async with school.db.read() as tx:
        assert await tx.fetch("SELECT count(*) FROM credential") == [(2,)]


async def credly_badges(school: School) -> list[str]:
    return sorted(badge["state"] for badge in await school.sandbox.badges())


async def test_credly_issues_a_revoked_badge_anew(db: Database) -> None:
    async with (
        running_sandbox() as sandbox,
        partner_school(db, sandbox, with_dispatch=False, only=("credential",)) as school,
    ):
        id = await school.complete(await school.publish())
        await school.work()
        [first] = await school.credential_of("ada")
        done = await school.credentials.revoke_selected(
            CredentialSelection(user_id="ada"), "wrong template", "test"
        )
        was_revoked = [each.id for each in done.revoked] == [first.id]
        new = await school.credentials.reissue(first.id, "test", school.completions)
        await school.work()
        badges = await credly_badges(school)
        step = await school.step(id, "credential")
        try:
            await school.credentials.reissue(first.id, "test", school.completions)
        except Conflict:
            is_refused = True
        else:
            is_refused = False
    assert was_revoked
    assert is_refused
    assert (step.status, step.external_id) == ("completed", new.id)
    assert len(badges) == 2
    assert badges.count("revoked") == 1
