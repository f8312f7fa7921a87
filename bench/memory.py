"""How much memory the server takes idle, and how much it keeps after a lot of work.

The work is far more than an hour of the demo's class: batches from 64 connections at full speed,
and hundreds of finished courses whose jobs go to the sandbox.
"""

import concurrent.futures
import multiprocessing
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil

from bench.finish import COURSE, _event, _send
from bench.load import Plan, load
from bench.server_process import ServerProcess, run_sandbox, run_server

MIB = 1024 * 1024


def _resident(server: ServerProcess) -> float:
    return round(float(psutil.Process(server.process.pid).memory_info().rss) / MIB, 1)


def _settled(server: ServerProcess, seconds: float) -> float:
    """Return the memory once it stopped falling: the least of some seconds."""
    least, limit = _resident(server), time.monotonic() + seconds
    while time.monotonic() < limit:
        time.sleep(0.5)
        least = min(least, _resident(server))
    return least


def measure(
    seconds: float = 60.0, finished: int = 300, settle: tuple[int, int] = (5, 12)
) -> dict[str, Any]:
    """Return megabytes resident: idle, at the end of the load, and settled after it.

    ``settle`` has the seconds for which the memory is watched before the load, and after it.
    """
    course = {
        "title": "Load",
        "units": [
            {
                "id": "u",
                "title": "Unit",
                "chapters": [{"id": f"chapter-{n:03}", "title": f"{n}"} for n in range(50)],
            }
        ],
    }
    with (
        run_sandbox() as (_, environment),
        tempfile.TemporaryDirectory() as folder,
        run_server(
            Path(folder), environment={**environment, "HOMEROOM_HEALTH_CHECK_INTERVAL": "5s"}
        ) as server,
    ):
        server.call("PUT", "/api/v1/courses/course-000", course)
        server.call("PUT", "/api/v1/courses/latency", COURSE)
        server.call("GET", "/api/v1/queues")
        idle = _settled(server, settle[0])
        report = load_in_process(
            Plan(port=server.port, key=server.key, seconds=seconds, learners=5_000)
        )
        for number in range(finished):
            _send(server, *(_event(f"learner-{number:04}", f"c{n}", 100) for n in range(4)))
        peak = _resident(server)
        limit = time.monotonic() + 180
        while time.monotonic() < limit:
            queues = server.call("GET", "/api/v1/queues")
            if all(not q["counts"]["waiting"] and not q["counts"]["active"] for q in queues):
                break
            time.sleep(0.5)
        after = _settled(server, settle[1])
    return {
        "idleMiB": idle,
        "endOfLoadMiB": peak,
        "afterMiB": after,
        "growth": round(after / idle, 3),
        "events": report["events"]["accepted"],
        "coursesFinished": finished,
    }


def load_in_process(plan: Plan) -> dict[str, Any]:
    """Run the load generator in a process of its own, as it wants to be."""
    spawn = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=spawn) as pool:
        return pool.submit(load, plan).result()


if __name__ == "__main__":
    print(measure())
