"""Each process of one server reports the metrics of all."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from homeroom.monitoring import peer_metrics
from homeroom.monitoring.metrics import Metrics
from homeroom.monitoring.peer_metrics import PeerMetrics

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def running(*peers: PeerMetrics) -> AsyncIterator[None]:
    tasks = [asyncio.create_task(each.run()) for each in peers]
    try:
        for each in peers:
            await each.started.wait()
        yield
    finally:
        for each in peers:
            each.close()
        await asyncio.gather(*tasks)


async def test_one_process_reports_all_and_every_sample_names_its_process(tmp_path: Path) -> None:
    mine, theirs = Metrics(), Metrics()
    one, two = PeerMetrics(tmp_path, "api-1", mine), PeerMetrics(tmp_path, "api-2", theirs)
    mine.count_events("accepted", 3)
    theirs.count_events("accepted", 4)
    theirs.observe_attempt("dispatch", "completion.hr", "done", 0.2, 0)
    mine.set_job_counts({"dispatch": {"waiting": 5}})
    theirs.set_job_counts(
        {"dispatch": {"waiting": 9}}
    )  # older: the process that reports has just counted
    mine.set_step_counts({"hr": {"failed": 2}}, {"hr": 60.0})
    theirs.set_step_counts({"hr": {"failed": 9}}, {"hr": 90.0})
    async with running(one, two):
        text = mine.render(one.name, await one.peer_snapshots()).decode()
        summary = mine.summary(await one.peer_snapshots())
    families = {found.name: found for found in text_string_to_metric_families(text)}
    events = {
        sample.labels["process"]: sample.value
        for sample in families["homeroom_ingest_events"].samples
        if sample.name.endswith("_total")
    }
    assert events == {"api-1": 3, "api-2": 4}
    [jobs] = families["homeroom_jobs"].samples
    assert (jobs.labels, jobs.value) == ({"queue": "dispatch", "state": "waiting"}, 5)
    [steps] = families["homeroom_completion_steps"].samples
    assert (steps.labels, steps.value) == ({"step": "hr", "status": "failed"}, 2)
    [oldest] = families["homeroom_completion_step_oldest_seconds"].samples
    assert (oldest.labels, oldest.value) == ({"step": "hr"}, 60)
    attempts = families["homeroom_job_attempts"].samples
    assert {sample.labels["process"] for sample in attempts} == {"api-2"}
    assert text.count("# TYPE homeroom_ingest_events_total") == 1
    assert summary["eventsPerSecond"] == pytest.approx(7, abs=0.5)
    assert os.listdir(tmp_path) == []


async def test_a_dead_or_silent_peer_is_omitted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(peer_metrics, "PEER_TIMEOUT_SECONDS", 0.05)
    alone = PeerMetrics(tmp_path, "api-1", Metrics())
    (tmp_path / "api-2.metrics").touch()  # left by a process that was killed
    with closing(socket.socket(socket.AF_UNIX)) as silent:
        silent.bind(str(tmp_path / "api-3.metrics"))
        silent.listen()
        assert await alone.peer_snapshots() == []


async def test_a_restarted_process_replaces_the_socket_of_its_predecessor(tmp_path: Path) -> None:
    with closing(socket.socket(socket.AF_UNIX)) as killed:
        killed.bind(str(tmp_path / "api-2.metrics"))
    one, two = (PeerMetrics(tmp_path, name, Metrics()) for name in ("api-1", "api-2"))
    async with running(one, two):
        assert [peer.process for peer in await one.peer_snapshots()] == ["api-2"]


async def test_a_missing_folder_does_not_stop_the_process(tmp_path: Path) -> None:
    lost = PeerMetrics(tmp_path / "gone", "api-1", Metrics())
    running = asyncio.create_task(lost.run())
    assert await lost.peer_snapshots() == []
    assert not running.done()
    lost.close()
    await running
