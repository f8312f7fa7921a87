"""Workers that write lesson plans, one fresh process for every ``fork`` on standard input.

What takes long, the imports, is done once; every worker is a process of its own all the same, which
the test kills by its id. ``dead PID`` is printed when one was waited for.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from datetime import timedelta
from pathlib import Path

from tests.servers.database import database_at

from homeroom.jobs.api import Registry
from homeroom.jobs.engines.sql import SqlEngine
from homeroom.jobs.upkeep import Upkeep
from homeroom.jobs.worker import Worker
from homeroom.lessonplans.api import LessonPlans, ModelConfig
from homeroom.lessonplans.model.writer import ModelWriter


async def work(place: Path | str, url: str) -> None:
    db = database_at(place)
    await db.open()
    registry, engine = Registry(), SqlEngine()
    config = ModelConfig(
        kind="openai", model="scripted", url=url, input_price=1_000_000, output_price=1_000_000
    )
    LessonPlans(db, ModelWriter(db, config)).register(registry)
    worker = Worker(db, registry, engine, poll=timedelta(milliseconds=50))
    await asyncio.gather(worker.run(), Upkeep(db, registry, engine).run())


def main() -> None:
    where, url = sys.argv[1:]
    place = where if "://" in where else Path(where)
    children: set[int] = set()
    print("ready", flush=True)
    for line in sys.stdin:
        word, _, pid = line.strip().partition(" ")
        if word == "fork":
            child = os.fork()
            if child == 0:
                sys.stdin.close()
                os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # its log is not for the test
                asyncio.run(work(place, url))
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
