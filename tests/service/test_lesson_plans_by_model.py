"""Lessons by a model: each way in which it can answer ends as docs/lesson-plans.md says (issue 4).

The server is real, on loopback; what it saw is compared with the ledger, call by call.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal

import pytest
from tests.service import scripted_model as scripts
from tests.service.plan_house import ACTOR, FAST, PlanHouse, curriculum, plan_house
from tests.service.scripted_model import ScriptedModel, scripted_model

from homeroom import wiring
from homeroom.cli.reach import reach
from homeroom.db.sqlite import SqliteDatabase
from homeroom.errors import ConfigurationError
from homeroom.lessonplans import call_store
from homeroom.lessonplans.api import Limits, ModelConfig, Patience
from homeroom.lessonplans.model.writer import ModelWriter
from homeroom.settings import load
from homeroom.wiring.partners import generator

pytestmark = [pytest.mark.anyio, pytest.mark.service]
KEY = "sk-test-0123456789"
ONE = curriculum(modules=1, lessons=1)
TWO = curriculum(modules=1, lessons=2)


@asynccontextmanager
async def house_with(
    db: SqliteDatabase,
    *script: scripts.Behaviour,
    patience: Patience = FAST,
    limits: Limits | None = None,
    **terms: Any,
) -> AsyncIterator[tuple[PlanHouse, ScriptedModel]]:
    async with scripted_model(*script) as model:
        config = ModelConfig(
            kind="openai",
            model="scripted",
            # Anthropic's and Google's SDKs add the version themselves
            url=model.url if "kind" not in terms else model.url.removesuffix("/v1"),
            key=KEY,
            timeout=timedelta(seconds=20),
            limits=limits or Limits(),
            input_price=2_000_000,
            output_price=8_000_000,
        )
        house = plan_house(db, ModelWriter(db, replace(config, **terms)), patience)
        yield house, model
        await house.plans.close()


async def check_ledger(house: PlanHouse, model: ScriptedModel, plan_id: str) -> None:
    """The ledger has a row for every request that the server saw, and no other."""
    calls = await house.calls(plan_id)
    assert len(calls) == len(model.requests)
    assert all(call.finished_at is not None for call in calls)
    status = await house.status(plan_id)
    assert status.spent.requests == len(model.requests)


async def test_a_model_that_answers_well_is_asked_once_a_lesson(db: SqliteDatabase) -> None:
    async with house_with(db) as (house, model):
        plan_id = await house.started()
        found = await house.run(plan_id)
        await check_ledger(house, model, plan_id)
        plan = await house.plan(plan_id)
    assert found.status == "complete"
    assert model.asked_for == {"1.1": 1, "1.2": 1, "2.1": 1, "2.2": 1}
    assert {lesson.generator for lesson in plan.lessons} == {"openai:scripted"}
    assert plan.gaps == []
    # 4 x (1,000 x 2 + 500 x 8) per million
    assert found.spent.cost == 4 * 6_000
    assert found.spent.cost_complete
    assert f"Bearer {KEY}" in model.requests[0]["head"]
    assert model.requests[0]["body"]["max_tokens"] == 6_000


async def test_an_answer_in_fences_is_read(db: SqliteDatabase) -> None:
    async with house_with(db, scripts.fenced) as (house, model):
        plan_id = await house.started(ONE)
        assert (await house.run(plan_id)).lessons_with_gaps == 0
        await check_ledger(house, model, plan_id)
    assert len(model.requests) == 1


@pytest.mark.parametrize(
    "bad", [scripts.short, scripts.inventing, scripts.chatter, scripts.misshapen]
)
async def test_a_bad_answer_is_mended_by_asking_once_more_with_the_reasons(
    db: SqliteDatabase, bad: scripts.Behaviour
) -> None:
    async with house_with(db, bad) as (house, model):
        plan_id = await house.started(ONE)
        found = await house.run(plan_id)
        await check_ledger(house, model, plan_id)
    assert (found.status, found.lessons_with_gaps) == ("complete", 0)
    assert len(model.requests) == 2
    assert model.requests[1]["question"]["reasons"]


async def test_what_stays_bad_is_a_gap_that_is_named_and_the_rules_hold_its_place(
    db: SqliteDatabase,
) -> None:
    async with house_with(db, scripts.inventing, scripts.inventing) as (house, model):
        plan_id = await house.started(TWO)
        found = await house.run(plan_id)
        plan = await house.plan(plan_id)
        await check_ledger(house, model, plan_id)
    assert (found.status, found.lessons_with_gaps) == ("complete", 1)
    [gap] = plan.gaps
    assert gap.slot.number == "1.1"
    assert {one.code for one in gap.gaps} == {"invented_link", "invented_outcome", "bloom_level"}
    assert gap.generator == "rule-based"
    assert plan.lessons[1].generator == "openai:scripted"
    assert model.asked_for == {"1.1": 2, "1.2": 1}


async def test_a_truncated_answer_gets_twice_the_room_once(db: SqliteDatabase) -> None:
    async with house_with(db, scripts.truncated) as (house, model):
        plan_id = await house.started(ONE)
        assert (await house.run(plan_id)).lessons_with_gaps == 0
        await check_ledger(house, model, plan_id)
    assert [each["body"]["max_tokens"] for each in model.requests] == [6_000, 12_000]


async def test_an_answer_that_is_truncated_twice_is_a_gap(db: SqliteDatabase) -> None:
    async with house_with(db, scripts.truncated, scripts.truncated) as (house, model):
        plan_id = await house.started(ONE)
        assert (await house.run(plan_id)).status == "complete"
        [gap] = (await house.plan(plan_id)).gaps
        await check_ledger(house, model, plan_id)
    assert [one.code for one in gap.gaps] == ["truncated"]
    assert len(model.requests) == 2


@pytest.mark.parametrize("refusal", [scripts.refusing, scripts.declining])
async def test_a_refusal_is_not_asked_again_and_is_a_gap(
    db: SqliteDatabase, refusal: scripts.Behaviour
) -> None:
    async with house_with(db, refusal) as (house, model):
        plan_id = await house.started(TWO)
        assert (await house.run(plan_id)).status == "complete"
        [gap] = (await house.plan(plan_id)).gaps
        await check_ledger(house, model, plan_id)
    assert [one.code for one in gap.gaps] == ["refused"]
    assert model.asked_for == {"1.1": 1, "1.2": 1}


@pytest.mark.parametrize("failure", [scripts.error(500), scripts.error(503), scripts.cutting])
async def test_a_failing_server_is_asked_again_by_the_job(
    db: SqliteDatabase, failure: scripts.Behaviour
) -> None:
    async with house_with(db, failure, failure) as (house, model):
        plan_id = await house.started(ONE)
        found = await house.run(plan_id)
        await check_ledger(house, model, plan_id)
        calls = await house.calls(plan_id)
    assert (found.status, found.lessons_with_gaps) == ("complete", 0)
    assert len(model.requests) == 3
    assert found.modules[0].job.attempts == 3
    assert calls[0].outcome == ("lost" if failure is scripts.cutting else "refused")
    assert calls[-1].outcome == "answered"


async def test_a_server_that_keeps_failing_fails_the_plan_and_a_retry_goes_on(
    db: SqliteDatabase,
) -> None:
    failure = scripts.error(500, "down for repairs")
    async with house_with(db, scripts.well, *[failure] * 5) as (house, model):
        plan_id = await house.started(TWO)
        found = await house.run(plan_id)
        assert found.status == "failed"
        assert "500" in (found.modules[0].module.error or "")
        assert model.asked_for["1.1"] == 1, "what was written is not asked for again"
        await house.plans.retry(plan_id, ACTOR)
        assert (await house.run(plan_id)).status == "complete"
        await check_ledger(house, model, plan_id)
    assert model.asked_for["1.1"] == 1


async def test_a_wrong_key_fails_at_once_and_is_not_shown(db: SqliteDatabase) -> None:
    wrong = scripts.error(401, f"Incorrect API key provided: {KEY}")
    async with house_with(db, wrong) as (house, model):
        plan_id = await house.started(ONE)
        found = await house.run(plan_id)
        await check_ledger(house, model, plan_id)
    assert found.status == "failed"
    reason = found.modules[0].module.error or ""
    assert "401" in reason
    assert "HOMEROOM_LLM_API_KEY" in reason
    assert KEY not in reason
    assert len(model.requests) == 1


async def test_retry_after_is_waited_for_by_everybody(db: SqliteDatabase) -> None:
    busy = scripts.error(429, "slow down", retry_after="30")
    async with house_with(db, busy) as (house, model):
        first, second = await house.started(ONE), await house.started(TWO)
        async with house.working(concurrency=1):

            async def both_wait() -> bool:
                return await house.job_states(first, second) == ["delayed", "delayed"]

            await house.when(both_wait)
            assert len(model.requests) == 1, "the other plan's job did not ask at all"
            [call] = await house.calls(first)
            assert (call.http_status, call.retry_after_ms) == (429, 30_000)
            [waiting] = (await house.status(second)).modules
            assert waiting.job.attempts == 0, "a wait for the provider spends no attempt"
            house.db.clock.advance(timedelta(seconds=31))
            for plan in (first, second):
                assert (await house.until(plan, "complete", "failed")).status == "complete"
        total = len(await house.calls(first)) + len(await house.calls(second))
    assert total == len(model.requests) == 4


async def test_the_requests_of_a_minute_are_limited_for_all_workers(db: SqliteDatabase) -> None:
    limits = Limits(requests_per_minute=2)
    async with house_with(db, limits=limits) as (house, model):
        plans = [await house.started(ONE) for _ in range(3)]
        async with house.working():

            async def one_waits() -> bool:
                states = sorted(await house.job_states(*plans))
                return states == ["completed", "completed", "delayed"]

            await house.when(one_waits)
            assert len(model.requests) == 2
            house.db.clock.advance(timedelta(seconds=61))
            for plan in plans:
                await house.until(plan, "complete")
    assert len(model.requests) == 3


async def test_an_answer_that_is_to_be_mended_is_not_thrown_away_for_a_limit(
    db: SqliteDatabase,
) -> None:
    limits = Limits(requests_per_minute=1)
    async with house_with(db, scripts.short, limits=limits) as (house, model):
        plan_id = await house.started(ONE)
        async with house.working():
            await model.seen.wait()

            async def is_paid_for() -> bool:
                return [call.outcome for call in await house.calls(plan_id)] == ["answered"]

            await house.when(is_paid_for)
            house.db.clock.advance(timedelta(seconds=61))
            found = await house.until(plan_id, "complete")
    assert found.lessons_with_gaps == 0
    assert found.modules[0].job.attempts == 1
    assert len(model.requests) == 2, "the first answer was mended, not asked for anew"
    assert model.requests[1]["question"]["reasons"]


async def test_an_answer_that_is_thrown_away_for_a_long_pause_spends_an_attempt(
    db: SqliteDatabase,
) -> None:
    limits = Limits(requests_per_minute=1)
    async with house_with(db, scripts.short, limits=limits) as (house, model):
        plan_id = await house.started(ONE)
        async with house.working():
            await model.seen.wait()

            async def is_paid_for() -> bool:
                return [call.outcome for call in await house.calls(plan_id)] == ["answered"]

            await house.when(is_paid_for)
            [call] = await house.calls(plan_id)
            async with db.write() as tx:
                await call_store.hold(tx, call.endpoint, tx.now + 3_600_000_000)

            async def waits() -> bool:
                return await house.job_states(plan_id) == ["delayed"]

            await house.when(waits)
            found = await house.status(plan_id)
    assert found.modules[0].job.attempts == 1, "so that it cannot go on like this for ever"


async def test_the_tokens_of_a_minute_are_limited(db: SqliteDatabase) -> None:
    limits = Limits(tokens_per_minute=10_000)
    async with house_with(db, limits=limits) as (house, model):
        plan_id = await house.started(curriculum(modules=1, lessons=3))
        async with house.working():

            async def waits() -> bool:
                return await house.job_states(plan_id) == ["delayed"]

            await house.when(waits)
            before = len(model.requests)
            assert before < 3
            house.db.clock.advance(timedelta(seconds=61))
            await house.until(plan_id, "complete")
        await check_ledger(house, model, plan_id)


async def test_a_budget_is_never_exceeded_and_what_is_written_stays(db: SqliteDatabase) -> None:
    # a call costs 0.006 and may cost 0.06 at most: two of them fit, and no third
    limits = Limits(budget=75_000)
    async with house_with(db, limits=limits) as (house, model):
        plan_id = await house.started(curriculum(modules=1, lessons=8))
        found = await house.run(plan_id)
        await check_ledger(house, model, plan_id)
        plan = await house.plan(plan_id)
    assert found.status == "failed"
    assert "budget" in (found.modules[0].module.error or "")
    assert 1 <= len(model.requests) < 8
    assert found.spent.cost is not None
    assert found.spent.cost <= 75_000
    assert sum(lesson.body is not None for lesson in plan.lessons) == len(model.requests)


async def test_a_call_without_an_answer_counts_as_dear_as_it_can_be(db: SqliteDatabase) -> None:
    limits = Limits(budget=75_000)
    async with house_with(db, scripts.cutting, limits=limits) as (house, model):
        plan_id = await house.started(ONE)
        found = await house.run(plan_id)
    assert found.status == "failed", "the lost call may have cost what the second one needs"
    assert not found.spent.cost_complete
    assert len(model.requests) == 1


async def test_a_budget_without_a_price_makes_no_call(db: SqliteDatabase) -> None:
    limits = Limits(budget=75_000)
    terms = {"input_price": None, "output_price": None}
    async with house_with(db, limits=limits, **terms) as (house, model):
        plan_id = await house.started(ONE)
        found = await house.run(plan_id)
    assert found.status == "failed"
    assert "HOMEROOM_LLM_PRICE_INPUT" in (found.modules[0].module.error or "")
    assert model.requests == []


async def test_an_unknown_price_is_shown_as_unknown_and_not_as_nothing(
    db: SqliteDatabase,
) -> None:
    async with house_with(db, input_price=None, output_price=None) as (house, _):
        plan_id = await house.started(ONE)
        found = await house.run(plan_id)
    assert found.status == "complete"
    assert found.spent.cost is None
    assert found.spent.input_tokens == scripts.PROMPT_TOKENS


async def test_a_cancelled_plan_stops_within_a_second_and_keeps_what_is_written(
    db: SqliteDatabase,
) -> None:
    async with house_with(db, scripts.well, scripts.hanging) as (house, model):
        plan_id = await house.started(TWO)
        async with house.working():
            async with asyncio.timeout(20):
                while len(model.requests) < 2:
                    model.seen.clear()
                    await model.seen.wait()
            loop = asyncio.get_running_loop()
            asked = loop.time()
            await house.plans.cancel(plan_id, ACTOR)
            found = await house.until(plan_id, "cancelled")
            assert loop.time() - asked < 1.0
        calls = await house.calls(plan_id)
        plan = await house.plan(plan_id)
        assert found.modules_generated == 0
        assert [lesson.body is not None for lesson in plan.lessons] == [True, False]
        assert [call.outcome for call in calls] == ["answered", "cancelled"]
        await house.plans.retry(plan_id, ACTOR)
        assert (await house.run(plan_id)).status == "complete"
    assert model.asked_for == {"1.1": 1, "1.2": 2}


async def test_a_server_that_does_not_answer_in_time_is_asked_again(db: SqliteDatabase) -> None:
    terms = {"timeout": timedelta(milliseconds=300)}
    async with house_with(db, scripts.hanging, **terms) as (house, _):
        plan_id = await house.started(ONE)
        assert (await house.run(plan_id)).status == "complete"
        calls = await house.calls(plan_id)
    assert [call.outcome for call in calls] == ["timeout", "answered"]


async def test_the_settings_build_the_model_and_check_asks_for_it(
    tmp_path: Path, database_file: Path
) -> None:
    async with scripted_model() as model:
        settings = load(
            data_dir=tmp_path,
            database_url=f"sqlite:///{database_file}",
            llm_model="scripted",
            llm_url=model.url,
            llm_api_key=KEY,
            llm_budget=1.5,
            llm_price_input=2.0,
            llm_price_output=8.0,
            llm_retries=0,
        )
        [reached] = await reach(settings)
        assert (reached.setting, reached.fault) == ("HOMEROOM_LLM_URL", None)
        async with wiring.open_house(settings) as built:
            house = PlanHouse(built.db, built.plans, built.registry)
            plan_id = await house.started(ONE)
            found = await house.run(plan_id)
    assert found.status == "complete"
    assert found.spent.cost == 6_000
    assert found.modules[0].job.max_attempts == 1


async def test_a_model_without_its_packages_is_said_so(
    db: SqliteDatabase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "homeroom.lessonplans.model.writer")
    monkeypatch.setitem(sys.modules, "pydantic_ai", None)
    with pytest.raises(ConfigurationError, match="a package for it is missing") as caught:
        generator(load(data_dir=tmp_path, llm_model="scripted"), db)
    assert "homeroom[llm]" in (caught.value.hint or "")


async def test_nobody_there_costs_nothing(db: SqliteDatabase) -> None:
    async with scripted_model() as gone:
        url = gone.url
    config = ModelConfig(
        kind="openai", model="scripted", url=url, input_price=1_000_000, output_price=1_000_000
    )
    house = plan_house(db, ModelWriter(db, config))
    plan_id = await house.started(ONE)
    found = await house.run(plan_id)
    calls = await house.calls(plan_id)
    await house.plans.close()
    assert found.status == "failed"
    assert {call.outcome for call in calls} == {"unreachable"}
    assert len(calls) == 4, "the first try and three retries"
    assert found.spent.cost == 0


@pytest.mark.parametrize("kind", ["anthropic", "google"])
async def test_other_providers_are_asked_in_their_own_language(
    db: SqliteDatabase, kind: Literal["anthropic", "google"]
) -> None:
    failure = scripts.error(500)
    async with house_with(db, failure, kind=kind, output=None) as (house, model):
        plan_id = await house.started(TWO)
        found = await house.run(plan_id)
        await check_ledger(house, model, plan_id)
        plan = await house.plan(plan_id)
    assert (found.status, found.lessons_with_gaps) == ("complete", 0)
    assert {lesson.generator for lesson in plan.lessons} == {f"{kind}:scripted"}
    assert found.spent.cost == 2 * 6_000
    assert len(model.requests) == 3, "the SDK does not try again by itself"
