"""Processor time against another commit: an ingested event and a no-op job, in pairs.

The other commit's code comes out of the history. Both run in turns on copies of the same filled
file, so that a machine that is slow for a while is slow for both; what counts is the ratio within a
pair, and the median over the pairs. Nothing else should run on the machine meanwhile.

    python -m bench.against 5851339 --pairs 12
    python -m bench.against 5851339 --pairs 12 --only event-postgres
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path

import psutil
from tools.servers import postgres
from tools.servers.postgres import Postgres

from bench import ingest_postgres
from bench.filled import Size
from bench.ingest import prefill
from bench.sending import HOMEROOM_RATE, rate, send
from bench.server_process import run_server

ROOT = Path(__file__).resolve().parents[1]
SIZE = Size(learners=2_000, chapters=50, events=50_000)
JOBS = 8_000
_JOBS_PROGRAM = f"""
import sys, tempfile, time
from pathlib import Path
import structlog
from bench import jobs
structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(40))
run = jobs._contenders({JOBS}, 1, 64)["homeroom, 64 at once"]
with tempfile.TemporaryDirectory() as folder:
    before = time.process_time()
    run(Path(folder))
    print((time.process_time() - before) / {JOBS})
"""


def unpack(revision: str, folder: Path) -> Path:
    """Write a commit's tree into a folder and return it."""
    packed = subprocess.run(
        ["git", "-C", str(ROOT), "archive", revision, "src", "bench", "tools"],
        capture_output=True,
        check=True,
    )
    with tarfile.open(fileobj=BytesIO(packed.stdout)) as archive:
        archive.extractall(folder, filter="data")
    return folder


def event_seconds(
    tree: Path, seconds: float, folder: Path, environment: dict[str, str] | None = None
) -> float:
    """Return the server's processor time of one accepted event, in seconds."""
    settings = {**(environment or {}), "PYTHONPATH": str(tree / "src")}
    with run_server(folder, "--no-worker", environment=settings) as server:
        process = psutil.Process(server.process.pid)
        before = process.cpu_times()
        found = send(server.port, server.key, seconds, SIZE, *rate(HOMEROOM_RATE))
        after = process.cpu_times()
    spent = after.user + after.system - before.user - before.system
    return float(spent / found["events"]["accepted"])


@contextlib.contextmanager
def events_on_sqlite(seconds: float) -> Iterator[Callable[[Path], float]]:
    """Yield what measures a tree on copies of one filled file."""
    with tempfile.TemporaryDirectory() as name:
        filled = Path(name) / "filled.db"
        prefill(filled, SIZE)

        def measure(tree: Path) -> float:
            with tempfile.TemporaryDirectory() as folder:
                shutil.copy(filled, Path(folder) / "homeroom.db")
                os.sync()
                return event_seconds(tree, seconds, Path(folder))

        yield measure


@contextlib.contextmanager
def events_on_postgres(seconds: float) -> Iterator[Callable[[Path], float]]:
    """Yield what measures a tree on copies of one filled database; the server's time is apart."""
    with postgres.running(durable=True, settings=ingest_postgres.SETTINGS) as server:
        filled = ingest_postgres.prefill(server, SIZE)

        def measure(tree: Path) -> float:
            with tempfile.TemporaryDirectory() as folder, _copied(server, filled) as url:
                return event_seconds(tree, seconds, Path(folder), {"HOMEROOM_DATABASE_URL": url})

        yield measure


@contextlib.contextmanager
def _copied(server: Postgres, filled: str) -> Iterator[str]:
    name = server.make_database(filled)
    os.sync()
    yield server.url(name)
    server.drop_database(name)


def job_seconds(tree: Path) -> float:
    """Return the processor time of adding and running one no-op job, in seconds."""
    done = subprocess.run(
        [sys.executable, "-c", _JOBS_PROGRAM],
        cwd=tree,
        env={**os.environ, "PYTHONPATH": f"{tree / 'src'}{os.pathsep}{tree}"},
        capture_output=True,
        text=True,
        check=True,
    )
    return float(done.stdout.split()[-1])


def compare(measure: Callable[[Path], float], ours: Path, theirs: Path, pairs: int) -> list[float]:
    """Return ours over theirs for each pair; which of the two runs first alternates."""
    ratios = []
    for number in range(pairs):
        order = (ours, theirs) if number % 2 else (theirs, ours)
        found = {tree: measure(tree) for tree in order}
        ratios.append(found[ours] / found[theirs])
        print(f"{found[ours] * 1e6:.2f} us, {found[theirs] * 1e6:.2f} us", file=sys.stderr)
    return ratios


def main() -> None:
    """Measure and print JSON."""
    parser = argparse.ArgumentParser(prog="python -m bench.against", description=__doc__)
    parser.add_argument("revision")
    parser.add_argument("--pairs", type=int, default=12)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--only", choices=("event", "event-postgres", "job"))
    given = parser.parse_args()
    measures: dict[str, contextlib.AbstractContextManager[Callable[[Path], float]]] = {
        "event": events_on_sqlite(given.seconds),
        "event-postgres": events_on_postgres(given.seconds),
        "job": contextlib.nullcontext(job_seconds),
    }
    found = {}
    with tempfile.TemporaryDirectory() as name:
        other = unpack(given.revision, Path(name) / "other")
        for what, opened in measures.items():
            if given.only in (None, what):
                with opened as measure:
                    found[what] = compare(measure, ROOT, other, given.pairs)
    print(
        json.dumps(
            {
                what: {"median": round(statistics.median(ratios), 3), "ratios": sorted(ratios)}
                for what, ratios in found.items()
            },
            indent=2,
        )
    )


if __name__ == "__main__":
    main()
