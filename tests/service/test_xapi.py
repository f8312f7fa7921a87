"""xAPI statements reach a learning record store that others wrote, each once."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any
from uuid import UUID

import pytest
from tests.support.missing_server import skip_or_fail
from tests.support.step_school import StepSchool, step_school
from tools.servers.debian import Missing
from tools.servers.ralph import KEY, SECRET, RalphServer

from homeroom.completion.api import Completion
from homeroom.db.database import Database
from homeroom.dispatch.api import XapiConfig
from homeroom.dispatch.xapi import XapiStep
from homeroom.dispatch.xapi_statement import build_statements, is_same_statement
from homeroom.jobs.api import PARTNER_DELAYS
from homeroom.partner.client import Partner, basic_auth_header, open_partner_client

pytestmark = [pytest.mark.anyio, pytest.mark.service]
SOURCE = "https://school.example"
VERBS = "http://adlnet.gov/expapi/verbs/"


@pytest.fixture(scope="module")
def ralph(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RalphServer]:
    server = RalphServer(tmp_path_factory.mktemp("ralph"))
    try:
        server.start()
    except Missing as missing:
        skip_or_fail(missing)
    yield server
    server.stop()


@pytest.fixture
async def here(sqlite: Database, ralph: RalphServer) -> AsyncIterator[StepSchool]:
    async with open_partner_client() as client:
        store = Partner(
            client, "the store", ralph.url, authorization=basic_auth_header(KEY, SECRET)
        )
        config = XapiConfig(store, SOURCE, PARTNER_DELAYS, 10)
        yield step_school(sqlite, client, [XapiStep], {XapiConfig: config})


def found_there(ralph: RalphServer, user_id: str) -> list[dict[str, Any]]:
    stored: list[dict[str, Any]] = ralph.statements()
    return [each for each in stored if each["actor"]["account"]["name"] == user_id]


async def test_a_completion_is_found_in_the_store(here: StepSchool, ralph: RalphServer) -> None:
    id = await here.complete("ada")
    await here.kernel.run_jobs()
    assert (await here.step(id, "xapi")).status == "completed"
    completed, passed = found_there(ralph, "ada")
    assert completed["verb"]["id"] == VERBS + "completed"
    assert completed["result"] == {"completion": True, "duration": "PT5400S"}
    assert passed["verb"]["id"] == VERBS + "passed"
    assert passed["result"] == {
        "success": True,
        "score": {"scaled": 0.875},
        "duration": "PT5400S",
    }
    assert completed["object"]["id"] == f"{SOURCE}/api/v1/courses/data"
    assert completed["actor"]["account"] == {"homePage": SOURCE, "name": "ada"}
    [dispatch] = await here.dispatches_to("xapi")
    assert (dispatch.status, dispatch.last_status) == ("delivered", 200)


async def test_a_set_that_is_sent_again_is_one_set_still(
    here: StepSchool, ralph: RalphServer
) -> None:
    id = await here.complete("ben")
    await here.kernel.run_jobs()
    [dispatch] = await here.dispatches_to("xapi")
    await here.dispatches.replay(dispatch.id, "olga")
    await here.kernel.run_jobs()
    assert len(found_there(ralph, "ben")) == 2
    [after] = await here.dispatches_to("xapi")
    assert (after.status, after.attempts) == ("delivered", 2)
    # As after the loss of a database: the same completion is recorded anew under another id.
    async with here.db.write() as tx:
        for table in ("completion_step", "completion", "dispatch"):
            await tx.execute(f"DELETE FROM {table}")
    other = await here.complete("ben")
    await here.kernel.run_jobs()
    assert other != id
    assert (await here.step(other, "xapi")).status == "completed"
    assert len(found_there(ralph, "ben")) == 2


async def test_another_statement_under_the_id_is_kept_as_a_fault(
    here: StepSchool, ralph: RalphServer
) -> None:
    id = await here.complete("eve")
    async with here.db.read() as tx:
        completion = await here.completions.get(tx, id)
    forged = build_statements(SOURCE, completion)[1]
    forged["result"]["score"]["scaled"] = 0.1
    response = await here.client.post(
        f"{ralph.url}/statements",
        json=[forged],
        auth=(KEY, SECRET),
        headers={"x-experience-api-version": "1.0.3"},
    )
    assert response.status_code == 200
    await here.kernel.run_jobs()
    step = await here.step(id, "xapi")
    assert (step.status, step.attempts) == ("failed", 1)
    [dispatch] = await here.dispatches_to("xapi")
    assert (dispatch.status, dispatch.last_status) == ("failed", 409)
    assert forged["id"] in (dispatch.last_error or "")
    stored = {each["verb"]["id"]: each for each in found_there(ralph, "eve")}
    assert stored[VERBS + "passed"]["result"]["score"]["scaled"] == 0.1
    assert stored[VERBS + "completed"]["result"]["completion"] is True  # it was not in conflict


async def test_a_set_of_which_the_store_has_a_part_is_completed(
    here: StepSchool, ralph: RalphServer
) -> None:
    id = await here.complete("max")
    async with here.db.read() as tx:
        completion = await here.completions.get(tx, id)
    first = {**build_statements(SOURCE, completion)[0], "timestamp": "2026-11-22T09:00:00.123456Z"}
    await here.client.post(
        f"{ralph.url}/statements",
        json=[first],
        auth=(KEY, SECRET),
        headers={"x-experience-api-version": "1.0.3"},
    )
    await here.kernel.run_jobs()
    assert (await here.step(id, "xapi")).status == "completed"
    assert len(found_there(ralph, "max")) == 2


def test_a_stored_statement_may_have_more_and_another_form_of_its_time() -> None:
    ours = {"id": "1", "timestamp": "2026-11-22T09:00:00Z", "verb": {"id": "v"}, "list": [1]}
    stored = {**ours, "timestamp": "2026-11-22T09:00:00+00:00", "stored": "x", "authority": {}}
    assert is_same_statement(ours, stored)
    for name, value in (
        ("timestamp", "2026-11-22T09:00:01Z"),
        ("timestamp", "yesterday"),
        ("verb", {"id": "w"}),
        ("verb", "v"),
        ("list", [1, 2]),
    ):
        assert not is_same_statement(ours, {**stored, name: value})


def test_ids_follow_from_what_happened_and_are_uuids_of_version_5() -> None:
    def ids(source: str, completion_id: str, user: str, score: int | None) -> list[str]:
        made = Completion(completion_id, user, "data", 1, 1, "Data", 5, 6, score, 60, ())
        return [each["id"] for each in build_statements(source, made)]

    first = ids(SOURCE, "c1", "ada", 9_000)
    assert first == ids(SOURCE, "c2", "ada", 8_000)  # recorded anew
    assert ids(SOURCE, "c1", "ada", None) == first[:1]  # without a score nothing was passed
    others = ids(SOURCE, "c1", "ben", 9_000) + ids("https://other.example", "c1", "ada", 9_000)
    assert len({*first, *others}) == 6
    assert {UUID(id).version for id in (*first, *others)} == {5}
