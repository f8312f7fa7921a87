"""Several programs on the same rows, each with its own connections and workers."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import timedelta
from typing import Any

import pytest

from homeroom.jobs import queue_store
from homeroom.jobs.enqueue import enqueue
from homeroom.jobs.job import JobState
from homeroom.jobs.outcome import Done

pytestmark = pytest.mark.anyio
PROGRAMS = 4
JOBS = 120


@pytest.fixture
async def kernels(kernel: Any, another: Any) -> AsyncIterator[list[Any]]:
    """Return one kernel a program, all on the same database."""
    async with AsyncExitStack() as stack:
        others = [await stack.enter_async_context(another()) for _ in range(PROGRAMS - 1)]
        yield [kernel, *others]


async def all_ended(kernel: Any) -> bool:
    async with kernel.db.read() as tx:
        found = (await queue_store.counts(tx)).get("contract", {})
    open_states = (JobState.WAITING, JobState.ACTIVE, JobState.DELAYED, JobState.WAITING_CHILDREN)
    return not sum(found.get(state, 0) for state in open_states)


async def work_all(kernels: list[Any]) -> None:
    """Run a worker in every program until all jobs have ended."""
    async with AsyncExitStack() as stack:
        for each in kernels:
            await stack.enter_async_context(each.worker(concurrency=5))
        await kernels[0].wait_until(lambda: all_ended(kernels[0]))


async def test_each_job_runs_once(kernels: list[Any], task: Any) -> None:
    for each in kernels:
        each.handle()
    words = [f"w{number}" for number in range(JOBS)]
    await kernels[0].add_words(words)
    await work_all(kernels)
    ran = [word for each in kernels for word in each.ran]
    assert Counter(ran) == Counter(words)


async def test_one_id_added_by_all_at_once_is_one_job(kernels: list[Any], task: Any) -> None:
    for each in kernels:
        each.handle()
    await asyncio.gather(
        *(each.add(task(word=f"n{n}"), id=f"natural.{n}") for n in range(20) for each in kernels)
    )
    await work_all(kernels)
    assert Counter(word for each in kernels for word in each.ran) == Counter(
        f"n{number}" for number in range(20)
    )


async def test_a_rate_limit_counts_all_programs_together(kernels: list[Any], task: Any) -> None:
    for each in kernels:
        each.handle()
    await kernels[0].call(queue_store.set_queue_limits, "contract", rate=(7, timedelta(hours=1)))
    await kernels[0].add_words([f"w{number}" for number in range(40)])
    async with AsyncExitStack() as stack:
        for each in kernels:
            await stack.enter_async_context(each.worker(concurrency=5))

        async def seven() -> bool:
            return sum(len(each.ran) for each in kernels) >= 7

        await kernels[0].wait_until(seven)
        for each in kernels:  # each commit makes all of them claim again
            await each.add(task(word="one more"))
    async with kernels[0].db.read() as tx:
        assert (await queue_store.counts(tx))["contract"][JobState.WAITING] == 44 - 7
    assert sum(len(each.ran) for each in kernels) == 7


async def test_a_dependent_added_while_its_dependency_ends_is_released(
    kernels: list[Any], task: Any
) -> None:
    for each in kernels:
        each.handle()
    async with AsyncExitStack() as stack:
        for each in kernels[:2]:
            await stack.enter_async_context(each.worker(concurrency=5))

        async def family(number: int) -> str:
            kernel = kernels[2 + number % 2]
            first = await kernel.add(task(word=f"first{number}"))
            second = await kernel.add(task(word=f"second{number}"))
            last: str = await kernel.add(task(word=f"last{number}"), after=[first, second])
            return last

        last = await asyncio.gather(*(family(number) for number in range(30)))
        for job_id in last:
            await kernels[0].wait_for_state(job_id, JobState.COMPLETED)
    ran = Counter(word for each in kernels for word in each.ran)
    assert set(ran.values()) == {1}
    assert len(ran) == 90


async def test_a_job_added_after_the_releasing_transaction_began_is_due(
    kernel: Any, task: Any
) -> None:
    """A transaction may wait for its turn while a dependent of its job is added."""

    async def begun_earlier(ctx: Any, args: Any) -> Any:
        async with kernel.db.write() as tx:
            tx.now -= 5_000_000
            await ctx.settle(tx, Done())
        return Done()

    kernel.handle(begun_earlier)
    first = await kernel.add(task(word="first"))
    last = await kernel.add(task(word="last"), after=[first])
    async with kernel.worker(concurrency=5):
        await kernel.wait_for_state(last, JobState.COMPLETED)
    assert kernel.ran == ["first", "last"]


async def test_jobs_that_add_jobs_lose_none_of_them(kernels: list[Any], task: Any) -> None:
    for each in kernels:

        async def spread(ctx: Any, args: Any, kernel: Any = each) -> Any:
            if len(args.word) < 4:
                async with kernel.db.write() as tx:
                    for letter in "abc":
                        word = args.word + letter
                        await enqueue(tx, task(word=word), id=f"spread.{word}")
                    await ctx.settle(tx, Done())
            return Done()

        each.handle(spread)
    await kernels[0].add(task(word="x"), id="spread.x")
    await work_all(kernels)
    ran = Counter(word for each in kernels for word in each.ran)
    assert len(ran) == 1 + 3 + 9 + 27
    assert set(ran.values()) == {1}


async def test_concurrent_maintenance_does_each_step_once(kernels: list[Any], task: Any) -> None:
    for each in kernels:
        each.handle()
    ids = await kernels[0].add_words(
        [f"w{number}" for number in range(50)], delay=timedelta(minutes=1)
    )
    kernels[0].clock.advance(timedelta(minutes=2))
    promoted = await asyncio.gather(*(each.maintenance.promote() for each in kernels * 3))
    assert sum(promoted) == len(ids)
    await work_all(kernels)
    assert sum(len(each.ran) for each in kernels) == len(ids)


async def test_a_job_added_in_one_program_starts_in_another_at_once(
    kernels: list[Any], task: Any
) -> None:
    """The hint of the commit wakes the worker, not its poll once a minute."""
    # On a SQLite file other programs' commits are found by polling.
    has_hints = kernels[0].db.dialect != "sqlite"
    kernels[1].handle()
    async with kernels[1].worker(
        poll=timedelta(minutes=1) if has_hints else timedelta(seconds=0.1)
    ):
        await kernels[1].add(task(word="warm"))
        await kernels[1].wait_until_true(lambda: kernels[1].ran == ["warm"])
        for number in range(10):
            await kernels[0].add(task(word=f"cold{number}"))
            await kernels[1].wait_until_true(lambda n=number: f"cold{n}" in kernels[1].ran)
