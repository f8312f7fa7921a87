"""Run every benchmark and write ``bench/results.md``: figures, ratios, versions and caveats.

    make bench                       all of it, five interleaved rounds (about 40 minutes)
    make bench ARGS="--only jobs"    one of: ingest, ingest-postgres, jobs, jobs-shared, finish,
                                     credentials, memory, monitoring, notify, operations, plans,
                                     queueing, startup, viewers
    make bench ARGS="--quick"        a smoke run that writes nothing

What is claimed in README and docs is taken from the file that this writes.
"""

import argparse
import json
import os
import platform
import sqlite3
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from bench import (
    credentials,
    filled,
    finish,
    idle,
    ingest,
    ingest_postgres,
    jobs,
    jobs_shared,
    memory,
    notify,
    operations,
    plans,
    queueing_workers,
    report,
    startup,
    viewers,
)

HERE = Path(__file__).parent
FIGURES = HERE / "results.json"
PAGE = HERE / "results.md"
PACKAGES = ("homeroom", "uvicorn", "msgspec", "aiosqlite", "fastapi", "sqlalchemy", "huey")


def machine() -> dict[str, Any]:
    """Return what the figures depend on."""
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()}",
        "cores": os.cpu_count(),
        "sqlite": sqlite3.sqlite_version,
        **{name: version(name) for name in PACKAGES},
    }


def main() -> None:
    """Run what is asked for, keep the other figures of the last run, and write the page."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--only", choices=tuple(report.TITLES))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    quick, rounds = options.quick, 1 if options.quick else options.rounds
    of_ingest = (2.0, filled.SMALL) if quick else (5.0, None)
    runs: dict[str, Callable[[], Any]] = {
        "ingest": lambda: ingest.measure(rounds, *of_ingest),
        "ingest-postgres": lambda: ingest_postgres.measure(rounds, *of_ingest),
        "jobs": lambda: jobs.measure(jobs=300 if quick else 2_000, rounds=rounds),
        "jobs-shared": lambda: jobs_shared.measure(jobs=300 if quick else 2_000, rounds=rounds),
        "finish": lambda: finish.measure(learners=30 if quick else 300),
        "credentials": lambda: credentials.measure(
            alone=5 if quick else 50, at_once=20 if quick else 1_000, files=2 if quick else 15
        ),
        "plans": lambda: plans.measure(plans=10, busy=5, runs=1) if quick else plans.measure(),
        "memory": lambda: memory.measure(
            seconds=3.0 if quick else 60.0, finished=20 if quick else 300
        ),
        "monitoring": lambda: idle.measure(5.0, 1, 1.0) if quick else idle.measure(),
        "queueing": lambda: queueing_workers.compare(
            queueing_workers.SMALL if quick else queueing_workers.SCENES
        ),
        "startup": lambda: startup.measure(rounds=3 if quick else 15),
        "notify": lambda: notify.measure(
            count=200 if quick else 10_000, mails=50 if quick else 1_000, rounds=min(rounds, 3)
        ),
        "operations": lambda: operations.measure(
            operations.Scale(5_000, 500) if quick else operations.Scale()
        ),
        "viewers": lambda: viewers.measure(*((40, 20) if quick else (1_000, 200))),
    }
    figures = json.loads(FIGURES.read_text()) if FIGURES.exists() and not quick else {}
    for name, run in runs.items():
        if options.only in (None, name):
            sys.stderr.write(f"{name} ...\n")
            figures[name] = {"machine": machine(), "measured": run()}
            sys.stderr.write(json.dumps(figures[name]["measured"], indent=2) + "\n")
    if not quick:
        FIGURES.write_text(json.dumps(figures, indent=2) + "\n")
        PAGE.write_text(report.page(figures))


if __name__ == "__main__":
    main()
