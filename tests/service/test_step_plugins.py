"""Steps of others: found, checked, built with their settings, missing and back again."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from tests.support.broken_steps import GreetingStep
from tests.support.homeroom_process import CommandLine
from tests.support.step_school import StepSchool, step_school

from homeroom.bootstrap.application import open_application
from homeroom.bootstrap.steps import find_steps
from homeroom.completion.api import CompletionFilter
from homeroom.completion.step_addition import add_step
from homeroom.completion.step_installation import STEP_NOT_INSTALLED, follow_installed_steps
from homeroom.db.database import Database
from homeroom.errors import ConfigurationError, Invalid
from homeroom.jobs.job import JobState
from homeroom.settings import find_setting_problems, list_step_settings, load

pytestmark = [pytest.mark.anyio, pytest.mark.service]
MODULE = "tests.support.broken_steps"


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    GreetingStep.greeted.clear()
    async with httpx.AsyncClient() as client:
        yield client


def with_step(db: Database, client: httpx.AsyncClient) -> StepSchool:
    return step_school(db, client, [GreetingStep])


def without_step(db: Database, client: httpx.AsyncClient) -> StepSchool:
    return step_school(db, client, [])


@pytest.mark.parametrize(
    ("target", "name", "reason"),
    [
        ("no.such.module:Step", "Step", "No module named 'no'"),
        (f"{MODULE}:Missing", "Missing", "has no attribute 'Missing'"),
        (f"{MODULE}:NotAStep", "NotAStep", "it is no subclass of Step"),
        (f"{MODULE}:WithoutRun", "WithoutRun", "it lacks run"),
        (f"{MODULE}:OtherKind", "waving", "the kind of its job is not completion.waving"),
        (f"{MODULE}:BadName", "Greeting-Step", "lower-case letters"),
        (f"{MODULE}:SecondHr", "hr", "has a step of that name"),
    ],
)
def test_a_step_that_cannot_be_used_is_named_with_the_reason(
    target: str, name: str, reason: str
) -> None:
    with pytest.raises(ConfigurationError) as failed:
        find_steps(load(steps=(target,)))
    assert failed.value.message.startswith(f"The completion step {name} of HOMEROOM_STEPS cannot")
    assert reason in failed.value.message


@pytest.mark.parametrize(
    ("target", "reason"),
    [("Raises", "the loudspeaker is missing"), ("WaitsForHr", "greeting waits for hr")],
)
async def test_a_step_that_cannot_be_built_stops_the_start(
    target: str, reason: str, tmp_path: Path
) -> None:
    settings = load(data_dir=tmp_path, steps=(f"{MODULE}:{target}",))
    with pytest.raises(ConfigurationError) as failed:
        async with open_application(settings, migrated=True):
            pass
    assert reason in failed.value.message


async def test_a_step_reads_its_own_settings_and_invalid_ones_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = load(data_dir=tmp_path, steps=(f"{MODULE}:GreetingStep",))
    monkeypatch.setenv("HOMEROOM_STEP_GREETING_WORDS", '["well", "done"]')
    monkeypatch.setenv("HOMEROOM_STEP_GREETING_PASSWORD", "a-secret")
    async with open_application(settings, migrated=True) as application:
        step = application.steps.steps[-1]
        assert step.context.settings.words == ["well", "done"]
        shown = {each.name: each.value for each in list_step_settings(application.steps.settings)}
    assert shown["HOMEROOM_STEP_GREETING_TIMES"] == "1"
    assert shown["HOMEROOM_STEP_GREETING_PASSWORD"] == "********"
    monkeypatch.setenv("HOMEROOM_STEP_GREETING_TIMES", "0")
    with pytest.raises(ConfigurationError) as failed:
        async with open_application(settings):
            pass
    assert "step greeting" in failed.value.message
    assert "HOMEROOM_STEP_GREETING_TIMES: write 1 or more" in failed.value.message


def test_the_settings_of_steps_are_no_unknown_names() -> None:
    environ = {"HOMEROOM_STEP_GREETING_WORDS": "x", "HOMEROOM_STEP_GREETING_TIME": "y"}
    names = ["HOMEROOM_STEP_GREETING_WORDS", "HOMEROOM_STEP_GREETING_TIMES"]
    [problem] = [
        each
        for each in find_setting_problems(load(), environ, names)
        if each.setting.startswith("HOMEROOM_STEP_")
    ]
    assert problem.setting == "HOMEROOM_STEP_GREETING_TIME"
    assert "HOMEROOM_STEP_GREETING_TIMES" in problem.fix


def test_a_server_does_not_start_with_a_broken_step(tmp_path: Path) -> None:
    run = CommandLine(tmp_path)
    run.environment["HOMEROOM_STEPS"] = "no_such_module:Step"
    ended = run("serve", "--port", "0")
    run.close()
    assert ended.returncode == ConfigurationError.exit_code
    [error] = [line for line in ended.stderr.splitlines() if line.startswith("Error: ")]
    assert "completion step Step of HOMEROOM_STEPS" in error
    assert not (tmp_path / "homeroom.db").exists()


async def test_steps_of_a_missing_plugin_are_skipped_and_go_on_when_it_is_back(
    db: Database, client: httpx.AsyncClient
) -> None:
    before = with_step(db, client)
    ids = [await before.complete(user) for user in ("ada", "ben")]
    await follow_installed_steps(db, before.completions)  # nothing is missing
    assert (await before.step(ids[0], "greeting")).status == "waiting"
    missing = without_step(db, client)
    await follow_installed_steps(db, missing.completions)
    for id in ids:
        step = await missing.step(id, "greeting")
        assert (step.status, step.skip_code, step.job_id) == ("skipped", STEP_NOT_INSTALLED, None)
        job = await missing.kernel.job(f"{id}.greeting")
        assert job.state is JobState.FAILED
    in_between = await missing.complete("eve")
    await missing.kernel.run_jobs()
    back = with_step(db, client)
    await follow_installed_steps(db, back.completions)
    await follow_installed_steps(db, back.completions)  # another worker at the same time
    await back.kernel.run_jobs()
    await back.kernel.maintenance.announce_pending()  # of the jobs that were cancelled
    for id in ids:
        step = await back.step(id, "greeting")
        assert (step.status, step.skip_code, step.runs) == ("completed", None, 2)
    assert sorted(GreetingStep.greeted) == ["ada", "ben"]
    async with db.read() as tx:
        assert (await back.completions.list_steps(tx, [in_between]))[in_between] == []


async def test_earlier_completions_get_the_step_by_a_command_once(
    db: Database, client: httpx.AsyncClient
) -> None:
    before = without_step(db, client)
    old = [await before.complete(user) for user in ("ada", "shy")]
    here = with_step(db, client)
    await here.complete("ben")
    completions, every = here.completions, CompletionFilter()
    assert await add_step(db, completions, "greeting", every, "olga", dry_run=True) == 2
    of_ada = CompletionFilter(user_id="ada")
    assert await add_step(db, completions, "greeting", of_ada, "olga", dry_run=True) == 1
    await here.kernel.run_jobs()
    assert GreetingStep.greeted == ["ben"]  # nothing was added yet
    assert await add_step(db, completions, "greeting", every, "olga") == 2
    assert await add_step(db, completions, "greeting", every, "olga") == 0
    await here.kernel.run_jobs()
    assert GreetingStep.greeted == ["ben", "ada"]
    assert (await here.step(old[0], "greeting")).external_id == "greeting of ada"
    assert (await here.step(old[1], "greeting")).skip_code == "learner_is_shy"
    async with db.read() as tx:
        audited = await tx.fetch("SELECT actor, subject FROM audit WHERE action = 'steps.added'")
    assert audited == [("olga", "greeting")]
    with pytest.raises(Invalid):
        await add_step(db, completions, "waving", every, "olga")
