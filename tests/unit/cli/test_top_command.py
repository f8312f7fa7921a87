"""``homeroom top``: one picture in 80 columns, and rates between two."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from homeroom.cli.top import Picture, lines_of
from homeroom.completion.api import StepCounts
from homeroom.db.tx import Tx
from homeroom.instant import SECOND
from homeroom.jobs import queue_store


def test_a_picture_shows_jobs_and_workers_in_80_columns(terminal: Any, rows: Any) -> None:
    assert "NO WORKER RUNS" in terminal.ok("top", "--once").out
    rows.waiting("w1", "w2")
    rows.ended("f1")
    [queue] = terminal.ok("queues", "list", "--json").json["items"]
    name = queue["name"]

    async def add_worker(tx: Tx) -> None:
        slots = {name: 2, **{f"a-queue-with-a-long-name-{n}": 1 for n in range(9)}}
        await queue_store.record_heartbeat(tx, "worker-of-the-east", "h", 1, slots, 30 * SECOND)

    terminal.write(add_worker)
    out = terminal.ok("top", "--once").out
    assert "workers: 1 running, 0 silent" in out
    lines = out.splitlines()
    assert max(map(len, lines)) <= 80
    [shown] = [line.split() for line in lines if line.startswith(name)]
    assert shown[:6] == [name, "running", "2", "0", "0/2", "1"]
    [worker] = [line.split() for line in lines if line.startswith("worker-of-the-east")]
    assert worker[:4] == ["worker-of-the-east", "running", "0/11", "10"]
    assert not set("\x1b│╭─") & set(out)


def test_rates_are_those_between_two_pictures() -> None:
    counts = {"waiting": 5, "delayed": 0, "waiting_children": 0, "active": 1, "failed": 0}
    queue = {"name": "dispatch", "paused": True, "counts": counts, "oldest_waiting_seconds": 61.0}
    steps = StepCounts({"hr": {"waiting": 2, "failed": 1}}, {"hr": 0})
    before = Picture(0, [queue], [], [], steps, (1, 2), 100)
    after = replace(
        before,
        at=10 * SECOND,
        last_seq=140,
        queues=[{**queue, "counts": {**counts, "waiting": 15}}],
    )
    lines = lines_of(after, before, 80)
    assert "jobs: 4.0/s added, 3.0/s ended" in lines[1]
    assert any(line.split()[:2] == ["dispatch", "paused"] for line in lines)
    assert any(line.split() == ["hr", "2", "1", "10.0s"] for line in lines)
