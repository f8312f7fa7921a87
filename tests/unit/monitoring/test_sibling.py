"""Processes of one server answer for each other's metrics."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from homeroom.monitoring import sibling
from homeroom.monitoring.api import Metrics, Siblings

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def running(*siblings: Siblings) -> AsyncIterator[None]:
    tasks = [asyncio.create_task(each.run()) for each in siblings]
    try:
        for each in siblings:
            await each.started.wait()
        yield
    finally:
        for each in siblings:
            each.close()
        await asyncio.gather(*tasks)


def left_in(folder: Path) -> list[Path]:
    return list(folder.iterdir())


async def test_one_answers_for_all_and_every_sample_says_whose_it_is(tmp_path: Path) -> None:
    mine, theirs = Metrics(), Metrics()
    one, two = Siblings(tmp_path, "api-1", mine), Siblings(tmp_path, "api-2", theirs)
    mine.events("accepted", 3)
    theirs.events("accepted", 4)
    theirs.attempt("completion.hr", "done", 0.2)
    mine.jobs({"dispatch": {"waiting": 5}})
    theirs.jobs({"dispatch": {"waiting": 9}})  # older; whoever answers has just counted
    async with running(one, two):
        text = mine.text(one.name, await one.others()).decode()
        summary = mine.summary(await one.others())
    families = {found.name: found for found in text_string_to_metric_families(text)}
    events = {
        sample.labels["process"]: sample.value
        for sample in families["homeroom_ingest_events"].samples
        if sample.name.endswith("_total")
    }
    assert events == {"api-1": 3, "api-2": 4}
    [jobs] = families["homeroom_jobs"].samples
    assert (jobs.labels, jobs.value) == ({"queue": "dispatch", "state": "waiting"}, 5)
    attempts = families["homeroom_job_attempts"].samples
    assert {sample.labels["process"] for sample in attempts} == {"api-2"}
    assert text.count("# TYPE homeroom_ingest_events_total") == 1
    assert summary["eventsPerSecond"] == pytest.approx(7, abs=0.5)
    assert not left_in(tmp_path)


async def test_one_that_is_dead_or_silent_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sibling, "PATIENCE_SECONDS", 0.05)
    alone = Siblings(tmp_path, "api-1", Metrics())
    (tmp_path / "api-2.metrics").touch()  # as a process that was killed leaves it
    with closing(socket.socket(socket.AF_UNIX)) as silent:
        silent.bind(str(tmp_path / "api-3.metrics"))
        silent.listen()
        assert await alone.others() == []


async def test_a_new_process_takes_the_place_of_one_that_was_killed(tmp_path: Path) -> None:
    with closing(socket.socket(socket.AF_UNIX)) as killed:
        killed.bind(str(tmp_path / "api-2.metrics"))
    one, two = (Siblings(tmp_path, name, Metrics()) for name in ("api-1", "api-2"))
    async with running(one, two):
        assert [other.process for other in await one.others()] == ["api-2"]


async def test_a_folder_that_is_gone_is_no_reason_to_stop(tmp_path: Path) -> None:
    lost = Siblings(tmp_path / "gone", "api-1", Metrics())
    running = asyncio.create_task(lost.run())
    assert await lost.others() == []
    assert not running.done()
    lost.close()
    await running
