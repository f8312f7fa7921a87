"""Workers that generate lesson plans, a new process for each ``fork`` on standard input.

The parent imports the modules once, which takes longest. The test kills each worker by its process
id. After ``wait PID`` the parent prints ``dead PID`` when that worker has exited.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from datetime import timedelta
from pathlib import Path

from tests.support.database import database_at, place_of

from homeroom.jobs.api import Registry
from homeroom.jobs.engine import SqlEngine
from homeroom.jobs.maintenance import JobMaintenance
from homeroom.jobs.worker import Worker
from homeroom.lessonplans.api import LessonPlans, ModelConfig
from homeroom.lessonplans.model.generator import ModelGenerator


async def run_worker(place: Path | str, url: str) -> None:
    db = database_at(place)
    await db.open()
    registry, engine = Registry(), SqlEngine()
    config = ModelConfig(
        kind="openai", model="scripted", url=url, input_price=1_000_000, output_price=1_000_000
    )
    LessonPlans(db, ModelGenerator(db, config)).register(registry)
    worker = Worker(db, registry, engine, poll=timedelta(milliseconds=50))
    await asyncio.gather(worker.run(), JobMaintenance(db, registry, engine).run())


def main() -> None:
    where, url = sys.argv[1:]
    place = place_of(where)
    children: set[int] = set()
    print("ready", flush=True)
    for line in sys.stdin:
        word, _, pid = line.strip().partition(" ")
        if word == "fork":
            child = os.fork()
            if child == 0:
                sys.stdin.close()
                os.dup2(
                    sys.stderr.fileno(), sys.stdout.fileno()
                )  # keep its log out of the protocol
                asyncio.run(run_worker(place, url))
                os._exit(0)
            children.add(child)
            print(f"born {child}", flush=True)
        elif word == "wait":
            os.waitpid(int(pid), 0)
            children.discard(int(pid))
            print(f"dead {pid}", flush=True)
    for child in children:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


if __name__ == "__main__":
    main()
