"""Lessons by a model: each kind of response ends as ``docs/lesson-plans.md`` states.

The server is real, on loopback; its requests are compared with the rows of ``llm_call``.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

import pytest
from tests.support import scripted_model as scripts
from tests.support.kernel import Kernel
from tests.support.plan_application import (
    ACTOR,
    FAST,
    PlanApplication,
    build_plan_application,
    curriculum,
)
from tests.support.scripted_model import ScriptedModel, scripted_model

from homeroom.bootstrap import application
from homeroom.bootstrap.open_telemetry import OpenTelemetryTracer
from homeroom.bootstrap.partners import build_generator
from homeroom.cli.check import probe_partners
from homeroom.db.sqlite.database import SqliteDatabase
from homeroom.errors import ConfigurationError
from homeroom.lessonplans.api import LessonRetryPolicy, ModelConfig, ModelLimits
from homeroom.lessonplans.model import call_store
from homeroom.lessonplans.model.generator import ModelGenerator
from homeroom.settings import load

pytestmark = [pytest.mark.anyio, pytest.mark.service]
KEY = "sk-test-0123456789"
ONE = curriculum(modules=1, lessons=1)
TWO = curriculum(modules=1, lessons=2)


@asynccontextmanager
async def application_with(
    db: SqliteDatabase,
    *script: scripts.Behaviour,
    retry_policy: LessonRetryPolicy = FAST,
    limits: ModelLimits | None = None,
    **terms: Any,
) -> AsyncIterator[tuple[PlanApplication, ScriptedModel]]:
    async with scripted_model(*script) as model:
        config = ModelConfig(
            kind="openai",
            model="scripted",
            # Anthropic's and Google's SDKs add the version themselves
            url=model.url if "kind" not in terms else model.url.removesuffix("/v1"),
            key=KEY,
            timeout=timedelta(seconds=20),
            limits=limits or ModelLimits(),
            input_price=2_000_000,
            output_price=8_000_000,
        )
        app = build_plan_application(db, ModelGenerator(db, replace(config, **terms)), retry_policy)
        yield app, model
        await app.plans.close()


async def check_recorded_calls(app: PlanApplication, model: ScriptedModel, plan_id: str) -> None:
    """Check that there is one recorded call for each request that the server received."""
    calls = await app.calls(plan_id)
    assert len(calls) == len(model.requests)
    assert all(call.finished_at is not None for call in calls)
    status = await app.status(plan_id)
    assert status.spent.requests == len(model.requests)


async def test_a_valid_answer_needs_one_request_per_lesson(db: SqliteDatabase) -> None:
    async with application_with(db) as (app, model):
        plan_id = await app.create_and_start()
        status = await app.run(plan_id)
        await check_recorded_calls(app, model, plan_id)
        plan = await app.plan(plan_id)
    assert status.status == "complete"
    assert model.requests_by_lesson == {"1.1": 1, "1.2": 1, "2.1": 1, "2.2": 1}
    assert {lesson.generator for lesson in plan.lessons} == {"openai:scripted"}
    assert plan.gaps == []
    # 4 x (1,000 x 2 + 500 x 8) per million
    assert status.spent.cost == 4 * 6_000
    assert status.spent.cost_complete
    assert f"Bearer {KEY}" in model.requests[0]["head"]
    assert model.requests[0]["body"]["max_tokens"] == 6_000


async def test_each_call_is_a_span_with_model_and_tokens_and_no_text(db: SqliteDatabase) -> None:
    export = import_module("opentelemetry.sdk.trace.export")
    spans = import_module("opentelemetry.sdk.trace.export.in_memory_span_exporter")
    provider = import_module("opentelemetry.sdk.trace").TracerProvider(shutdown_on_exit=False)
    exporter = spans.InMemorySpanExporter()
    provider.add_span_processor(export.SimpleSpanProcessor(exporter))
    db.tracer = OpenTelemetryTracer(provider)
    async with application_with(db, scripts.error(503)) as (app, model):
        plan_id = await app.create_and_start(ONE)
        await app.run(plan_id)
    found = exporter.get_finished_spans()
    calls = [each for each in found if each.name == "chat scripted"]
    jobs = {each.context.span_id: each.name for each in found if each not in calls}
    tokens = {"gen_ai.usage.input_tokens": 1_000, "gen_ai.usage.output_tokens": 500}
    asked = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "scripted",
        "gen_ai.request.max_tokens": 6_000,
        "server.address": "127.0.0.1",
    }
    assert [dict(each.attributes) for each in calls] == [
        {**asked, "http.response.status_code": 503, "error.type": "503"},
        {**asked, **tokens, "http.response.status_code": 200},
    ]
    assert {jobs[each.parent.span_id] for each in calls} == {"process lessonplans.generate_module"}
    assert "traceparent" not in model.requests[0]["head"].lower()


async def test_an_answer_in_fences_is_read(db: SqliteDatabase) -> None:
    async with application_with(db, scripts.fenced) as (app, model):
        plan_id = await app.create_and_start(ONE)
        assert (await app.run(plan_id)).lessons_with_gaps == 0
        await check_recorded_calls(app, model, plan_id)
    assert len(model.requests) == 1


@pytest.mark.parametrize(
    "bad", [scripts.short, scripts.inventing, scripts.chatter, scripts.misshapen]
)
async def test_a_bad_answer_is_repaired_by_a_second_prompt_with_the_findings(
    db: SqliteDatabase, bad: scripts.Behaviour
) -> None:
    async with application_with(db, bad) as (app, model):
        plan_id = await app.create_and_start(ONE)
        status = await app.run(plan_id)
        await check_recorded_calls(app, model, plan_id)
    assert (status.status, status.lessons_with_gaps) == ("complete", 0)
    assert len(model.requests) == 2
    assert model.requests[1]["question"]["reasons"]


async def test_a_part_that_fails_twice_is_a_gap_and_a_rule_based_part_takes_its_place(
    db: SqliteDatabase,
) -> None:
    async with application_with(db, scripts.inventing, scripts.inventing) as (app, model):
        plan_id = await app.create_and_start(TWO)
        status = await app.run(plan_id)
        plan = await app.plan(plan_id)
        await check_recorded_calls(app, model, plan_id)
    assert (status.status, status.lessons_with_gaps) == ("complete", 1)
    [gap] = plan.gaps
    assert gap.slot.number == "1.1"
    assert {one.code for one in gap.gaps} == {"invented_link", "invented_outcome", "bloom_level"}
    assert {one.field for one in gap.gaps} == {"references", "assessments"}
    assert gap.generator == "openai:scripted, rule-based"
    assert model.requests[1]["question"]["question"]["write"] == ["assessments", "references"]
    assert gap.body is not None
    assert gap.body.vocabulary[0].term == "dough", "the parts that passed are kept"
    assert gap.body.references == []
    assert gap.body.assessments[0].outcome_id == "m1.o1"
    authors = gap.provenance["parts"]
    assert isinstance(authors, dict)
    assert (authors["vocabulary"], authors["assessments"]) == ("openai:scripted", "rule-based")
    assert plan.lessons[1].generator == "openai:scripted"
    assert model.requests_by_lesson == {"1.1": 2, "1.2": 1}


async def test_a_truncated_answer_gets_twice_the_token_limit_once(db: SqliteDatabase) -> None:
    async with application_with(db, scripts.truncated) as (app, model):
        plan_id = await app.create_and_start(ONE)
        assert (await app.run(plan_id)).lessons_with_gaps == 0
        await check_recorded_calls(app, model, plan_id)
    assert [each["body"]["max_tokens"] for each in model.requests] == [6_000, 12_000]


async def test_an_answer_that_is_truncated_twice_is_a_gap(db: SqliteDatabase) -> None:
    async with application_with(db, scripts.truncated, scripts.truncated) as (app, model):
        plan_id = await app.create_and_start(ONE)
        assert (await app.run(plan_id)).status == "complete"
        [gap] = (await app.plan(plan_id)).gaps
        await check_recorded_calls(app, model, plan_id)
    assert [one.code for one in gap.gaps] == ["truncated"]
    assert len(model.requests) == 2


@pytest.mark.parametrize("refusal", [scripts.refusing, scripts.declining])
async def test_a_refusal_is_a_gap_without_a_second_request(
    db: SqliteDatabase, refusal: scripts.Behaviour
) -> None:
    async with application_with(db, refusal) as (app, model):
        plan_id = await app.create_and_start(TWO)
        assert (await app.run(plan_id)).status == "complete"
        [gap] = (await app.plan(plan_id)).gaps
        await check_recorded_calls(app, model, plan_id)
    assert [one.code for one in gap.gaps] == ["refused"]
    assert model.requests_by_lesson == {"1.1": 1, "1.2": 1}


@pytest.mark.parametrize("failure", [scripts.error(500), scripts.error(503), scripts.cutting])
async def test_a_failing_server_is_retried_by_the_job(
    db: SqliteDatabase, failure: scripts.Behaviour
) -> None:
    async with application_with(db, failure, failure) as (app, model):
        plan_id = await app.create_and_start(ONE)
        status = await app.run(plan_id)
        await check_recorded_calls(app, model, plan_id)
        calls = await app.calls(plan_id)
    assert (status.status, status.lessons_with_gaps) == ("complete", 0)
    assert len(model.requests) == 3
    assert status.modules[0].job.attempts == 3
    assert calls[0].outcome == ("lost" if failure is scripts.cutting else "refused")
    assert calls[-1].outcome == "answered"


async def test_a_server_that_keeps_failing_fails_the_plan_and_a_retry_goes_on(
    db: SqliteDatabase,
) -> None:
    failure = scripts.error(500, "down for repairs")
    async with application_with(db, scripts.well, *[failure] * 5) as (app, model):
        plan_id = await app.create_and_start(TWO)
        status = await app.run(plan_id)
        assert status.status == "failed"
        assert "500" in (status.modules[0].module.error or "")
        assert model.requests_by_lesson["1.1"] == 1, "a stored lesson is not requested again"
        await app.plans.retry(plan_id, ACTOR)
        assert (await app.run(plan_id)).status == "complete"
        await check_recorded_calls(app, model, plan_id)
    assert model.requests_by_lesson["1.1"] == 1


async def test_a_wrong_key_fails_at_once_and_is_not_shown(db: SqliteDatabase) -> None:
    wrong = scripts.error(401, f"Incorrect API key provided: {KEY}")
    async with application_with(db, wrong) as (app, model):
        plan_id = await app.create_and_start(ONE)
        status = await app.run(plan_id)
        await check_recorded_calls(app, model, plan_id)
    assert status.status == "failed"
    reason = status.modules[0].module.error or ""
    assert "401" in reason
    assert "HOMEROOM_LLM_API_KEY" in reason
    assert KEY not in reason
    assert len(model.requests) == 1


async def test_all_workers_wait_for_retry_after(db: SqliteDatabase) -> None:
    busy = scripts.error(429, "slow down", retry_after="30")
    async with application_with(db, busy) as (app, model):
        first, second = await app.create_and_start(ONE), await app.create_and_start(TWO)
        async with app.run_worker(concurrency=1):

            async def both_wait() -> bool:
                return await app.job_states(first, second) == ["delayed", "delayed"]

            await app.kernel.wait_until(both_wait)
            assert len(model.requests) == 1, "the other plan's job did not ask at all"
            [call] = await app.calls(first)
            assert (call.http_status, call.retry_after_ms) == (429, 30_000)
            [waiting] = (await app.status(second)).modules
            assert waiting.job.attempts == 0, "a wait for the provider spends no attempt"
            app.db.clock.advance(timedelta(seconds=31))
            for plan in (first, second):
                assert (await app.wait_for_status(plan, "complete", "failed")).status == "complete"
        total = len(await app.calls(first)) + len(await app.calls(second))
    assert total == len(model.requests) == 4


async def test_the_requests_of_a_minute_are_limited_for_all_workers(db: SqliteDatabase) -> None:
    limits = ModelLimits(requests_per_minute=2)
    async with application_with(db, limits=limits) as (app, model):
        plans = [await app.create_and_start(ONE) for _ in range(3)]
        async with app.run_worker():

            async def one_waits() -> bool:
                states = sorted(await app.job_states(*plans))
                return states == ["completed", "completed", "delayed"]

            await app.kernel.wait_until(one_waits)
            assert len(model.requests) == 2
            app.db.clock.advance(timedelta(seconds=61))
            for plan in plans:
                await app.wait_for_status(plan, "complete")
    assert len(model.requests) == 3


async def test_an_answer_under_repair_is_not_discarded_for_a_short_delay(
    db: SqliteDatabase,
) -> None:
    limits = ModelLimits(requests_per_minute=1)
    async with application_with(db, scripts.short, limits=limits) as (app, model):
        plan_id = await app.create_and_start(ONE)
        async with app.run_worker():
            await model.seen.wait()

            async def is_paid_for() -> bool:
                return [call.outcome for call in await app.calls(plan_id)] == ["answered"]

            await app.kernel.wait_until(is_paid_for)
            app.db.clock.advance(timedelta(seconds=61))
            status = await app.wait_for_status(plan_id, "complete")
    assert status.lessons_with_gaps == 0
    assert status.modules[0].job.attempts == 1
    assert len(model.requests) == 2, "the first answer was repaired, not requested again"
    assert model.requests[1]["question"]["reasons"]


async def test_an_answer_that_is_discarded_for_a_long_delay_spends_an_attempt(
    db: SqliteDatabase,
) -> None:
    limits = ModelLimits(requests_per_minute=1)
    async with application_with(db, scripts.short, limits=limits) as (app, model):
        plan_id = await app.create_and_start(ONE)
        async with app.run_worker():
            await model.seen.wait()

            async def is_paid_for() -> bool:
                return [call.outcome for call in await app.calls(plan_id)] == ["answered"]

            await app.kernel.wait_until(is_paid_for)
            [call] = await app.calls(plan_id)
            async with db.write() as tx:
                await call_store.hold_endpoint(tx, call.endpoint, tx.now + 3_600_000_000)

            async def waits() -> bool:
                return await app.job_states(plan_id) == ["delayed"]

            await app.kernel.wait_until(waits)
            status = await app.status(plan_id)
    assert status.modules[0].job.attempts == 1, "the attempts bound the number of discarded answers"


async def test_the_tokens_of_a_minute_are_limited(db: SqliteDatabase) -> None:
    limits = ModelLimits(tokens_per_minute=11_500)  # 9,300 are reserved for a call, 1,500 used
    async with application_with(db, limits=limits) as (app, model):
        plan_id = await app.create_and_start(curriculum(modules=1, lessons=3))
        async with app.run_worker():

            async def waits() -> bool:
                return await app.job_states(plan_id) == ["delayed"]

            await app.kernel.wait_until(waits)
            before = len(model.requests)
            assert before < 3
            app.db.clock.advance(timedelta(seconds=61))
            await app.wait_for_status(plan_id, "complete")
        await check_recorded_calls(app, model, plan_id)


async def test_a_budget_is_never_exceeded_and_what_is_written_stays(db: SqliteDatabase) -> None:
    # a call costs 0.006 and may cost 0.068 at most: two or three of them fit
    limits = ModelLimits(budget=90_000)
    async with application_with(db, limits=limits) as (app, model):
        plan_id = await app.create_and_start(curriculum(modules=1, lessons=8))
        status = await app.run(plan_id)
        await check_recorded_calls(app, model, plan_id)
        plan = await app.plan(plan_id)
    assert status.status == "failed"
    assert "budget" in (status.modules[0].module.error or "")
    assert 1 <= len(model.requests) < 8
    assert status.spent.cost is not None
    assert status.spent.cost <= 90_000
    assert sum(lesson.body is not None for lesson in plan.lessons) == len(model.requests)


async def test_a_call_without_an_answer_counts_at_its_highest_cost(db: SqliteDatabase) -> None:
    limits = ModelLimits(budget=90_000)
    async with application_with(db, scripts.cutting, limits=limits) as (app, model):
        plan_id = await app.create_and_start(ONE)
        status = await app.run(plan_id)
    assert status.status == "failed", "the lost call may have cost what the second one needs"
    assert not status.spent.cost_complete
    assert len(model.requests) == 1


async def test_a_budget_without_a_price_makes_no_call(db: SqliteDatabase) -> None:
    limits = ModelLimits(budget=90_000)
    terms = {"input_price": None, "output_price": None}
    async with application_with(db, limits=limits, **terms) as (app, model):
        plan_id = await app.create_and_start(ONE)
        status = await app.run(plan_id)
    assert status.status == "failed"
    assert "HOMEROOM_LLM_PRICE_INPUT" in (status.modules[0].module.error or "")
    assert model.requests == []


async def test_an_unknown_price_is_shown_as_unknown_and_not_as_zero(
    db: SqliteDatabase,
) -> None:
    async with application_with(db, input_price=None, output_price=None) as (app, _):
        plan_id = await app.create_and_start(ONE)
        status = await app.run(plan_id)
    assert status.status == "complete"
    assert status.spent.cost is None
    assert status.spent.input_tokens == scripts.PROMPT_TOKENS


async def test_a_cancelled_plan_stops_within_a_second_and_keeps_what_is_written(
    db: SqliteDatabase,
) -> None:
    async with application_with(db, scripts.well, scripts.hanging) as (app, model):
        plan_id = await app.create_and_start(TWO)
        async with app.run_worker():
            async with asyncio.timeout(20):
                while len(model.requests) < 2:
                    model.seen.clear()
                    await model.seen.wait()
            loop = asyncio.get_running_loop()
            started = loop.time()
            await app.plans.cancel(plan_id, ACTOR)
            status = await app.wait_for_status(plan_id, "cancelled")
            assert loop.time() - started < 1.0
        calls = await app.calls(plan_id)
        plan = await app.plan(plan_id)
        assert status.modules_generated == 0
        assert [lesson.body is not None for lesson in plan.lessons] == [True, False]
        assert [call.outcome for call in calls] == ["answered", "cancelled"]
        await app.plans.retry(plan_id, ACTOR)
        assert (await app.run(plan_id)).status == "complete"
    assert model.requests_by_lesson == {"1.1": 1, "1.2": 2}


async def test_a_server_that_does_not_answer_in_time_is_called_again(db: SqliteDatabase) -> None:
    terms = {"timeout": timedelta(milliseconds=300)}
    async with application_with(db, scripts.hanging, **terms) as (app, _):
        plan_id = await app.create_and_start(ONE)
        assert (await app.run(plan_id)).status == "complete"
        calls = await app.calls(plan_id)
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
        [reached] = await probe_partners(settings)
        assert (reached.setting, reached.fault) == ("HOMEROOM_LLM_URL", None)
        async with application.open_application(settings) as built:
            app = PlanApplication(built.db, built.plans, Kernel(built.db, registry=built.registry))
            plan_id = await app.create_and_start(ONE)
            status = await app.run(plan_id)
    assert status.status == "complete"
    assert status.spent.cost == 6_000
    assert status.modules[0].job.max_attempts == 1


async def test_a_model_without_its_packages_is_a_configuration_error(
    db: SqliteDatabase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "homeroom.lessonplans.model.generator")
    monkeypatch.setitem(sys.modules, "pydantic_ai", None)
    with pytest.raises(ConfigurationError, match="a package for it is missing") as caught:
        build_generator(load(data_dir=tmp_path, llm_model="scripted"), db)
    assert "homeroom[llm]" in (caught.value.hint or "")


async def test_an_unreachable_server_costs_nothing(db: SqliteDatabase) -> None:
    async with scripted_model() as gone:
        url = gone.url
    config = ModelConfig(
        kind="openai", model="scripted", url=url, input_price=1_000_000, output_price=1_000_000
    )
    app = build_plan_application(db, ModelGenerator(db, config))
    plan_id = await app.create_and_start(ONE)
    status = await app.run(plan_id)
    calls = await app.calls(plan_id)
    await app.plans.close()
    assert status.status == "failed"
    assert {call.outcome for call in calls} == {"unreachable"}
    assert len(calls) == 4, "the first try and three retries"
    assert status.spent.cost == 0


@pytest.mark.parametrize("kind", ["anthropic", "google"])
async def test_other_providers_are_called_by_their_own_api(
    db: SqliteDatabase, kind: Literal["anthropic", "google"]
) -> None:
    failure = scripts.error(500)
    async with application_with(db, failure, kind=kind, output=None) as (app, model):
        plan_id = await app.create_and_start(TWO)
        status = await app.run(plan_id)
        await check_recorded_calls(app, model, plan_id)
        plan = await app.plan(plan_id)
    assert (status.status, status.lessons_with_gaps) == ("complete", 0)
    assert {lesson.generator for lesson in plan.lessons} == {f"{kind}:scripted"}
    assert status.spent.cost == 2 * 6_000
    assert len(model.requests) == 3, "the SDK does not try again by itself"
