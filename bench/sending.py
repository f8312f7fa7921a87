"""Send events to a server, on whatever engine, and hold what it stored against what it said."""

import contextlib
import json
import statistics
import subprocess
import sys
from collections.abc import Iterator, Sequence
from typing import Any

from tools.servers.port import free_port

from bench.filled import Size
from bench.server_process import stop_process, wait_for

Numbers = dict[str, Any]
KEY = "hr_bench"
HOMEROOM_RATE, EXPRESS_RATE, NAIVE_RATE, BARE_RATE = 14_000, 4_000, 400, 4_000
"""Requests a second that are built for a run; a run that used all of them is refused."""
_WARMUP_SECONDS = 1.0


def send(port: int, key: str, seconds: float, size: Size, *options: str) -> Numbers:
    """Run the load in a process of its own and return its report."""
    flags = {
        "--port": port,
        "--key": key,
        "--learners": size.learners,
        "--chapters": size.chapters,
        "--connections": size.connections,
        "--seconds": seconds,
        "--warmup-seconds": min(_WARMUP_SECONDS, seconds),
    }
    words = [str(word) for pair in flags.items() for word in pair]
    done = subprocess.run(
        [sys.executable, "-m", "bench.load", *words, *options],
        stdout=subprocess.PIPE,
        check=True,
        timeout=120 + 10 * seconds,
    )
    found: Numbers = json.loads(done.stdout)
    if found["exhausted"]:
        raise RuntimeError("the load ran out of requests: the figure would be too low")
    return found


def rate(requests: int) -> tuple[str, str]:
    """Return the option that says how many requests a second are built."""
    return "--highest-rate", str(requests)


def check(name: str, found: Numbers, before: dict[str, int], after: dict[str, int]) -> None:
    """Raise unless what was stored is exactly what was acknowledged."""
    expected = {"events": found["events"]["accepted"]}
    for kept in before.keys() - {"events"}:
        expected[kept] = found["timeSpentAcknowledged"]
    stored = {key: after[key] - before[key] for key in before}
    if stored != expected or found["errors"]:
        raise RuntimeError(f"{name}: stored {stored}, acknowledged {expected}, {found['errors']}")


def bare(seconds: float, size: Size) -> Numbers:
    """Measure the handler that only decodes."""
    with reference("bare") as port:
        return send(port, KEY, seconds, size, *rate(BARE_RATE), "--recycle")


def make_naive(database: str, size: Size) -> None:
    """Make the ORM handler fill the database at a URL, which has no tables yet."""
    options = {"--learners": size.learners, "--chapters": size.chapters, "--events": size.events}
    words = [str(word) for pair in options.items() for word in pair]
    with reference("naive_orm", "--database", database, "--key", KEY, *words, wait=900):
        pass


@contextlib.contextmanager
def reference(module: str, *options: str, wait: float = 60.0) -> Iterator[int]:
    """Run a reference server in Python until the block ends; yield its port."""
    port = free_port()
    command = [sys.executable, "-m", f"bench.references.{module}", "--port", str(port), *options]
    with served(command, port, wait):
        yield port


@contextlib.contextmanager
def served(
    command: Sequence[str],
    port: int,
    wait: float = 60.0,
    environment: dict[str, str] | None = None,
) -> Iterator[None]:
    """Run a server until the block ends, which begins once it listens."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, env=environment)
    try:
        wait_for(port, process, wait)
        yield
    finally:
        stop_process(process)


def median(found: Sequence[Numbers]) -> Numbers:
    """Return what is shown of the runs of a contender."""
    rates = [one["eventsPerSecond"] for one in found]
    return {
        "events_per_second": statistics.median(rates),
        "lowest": min(rates),
        "highest": max(rates),
        **{
            f"{name}_ms": statistics.median(one["latencyMs"][name] for one in found)
            for name in ("p50", "p99", "max")
        },
        "cpu_share_of_the_load": statistics.median(one["cpuShare"] for one in found),
    }


def over(medians: dict[str, Numbers], ours: str, theirs: str) -> float:
    """Return our rate over theirs."""
    rate = medians[theirs]["events_per_second"]
    # In a smoke run of half a second a slow contender may give no answer.
    return float(medians[ours]["events_per_second"] / rate) if rate else float("inf")
