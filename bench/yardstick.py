"""Speed of this machine, as factors of the machine on which ``bench/results.md`` was measured.

    python -m bench.yardstick            measure, and print each factor (about 15 seconds)
    python -m bench.yardstick --write    measure, and make this machine the reference in this file

Divide a figure of ``bench/results.md`` by the factor of the workload that limits it: ingest by
``sqlite``, a read by ``asgi``. Nothing else should run on the machine meanwhile.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import platform
import re
import sqlite3
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import msgspec
from starlette.types import Receive, Scope, Send

from homeroom.http.logging_config import configure_logging
from homeroom.http.server import run_loop, serve_app
from homeroom.progress.event import SentBatch

# The table is rewritten by --write.
REFERENCE_MACHINE = "AMD EPYC, 2 cores, Linux 6.18.44-fc-v782, Python 3.11.7, 2026-11-29"
REFERENCE: dict[str, float] = {
    "python": 129.5,
    "msgspec": 48756.2,
    "sqlite": 171.5,
    "asgi": 2624.5,
}

UNITS = {
    "python": "loops/s of pure Python",
    "msgspec": "batches/s of ten events decoded",
    "sqlite": "commits/s, WAL, synchronous=FULL",
    "asgi": "requests/s of a bare handler",
}
ROUNDS = 5
CONNECTIONS = 8
_TABLE = re.compile(r"REFERENCE_MACHINE = .*?\n}\n", re.DOTALL)
_HERE = Path(__file__)
_BATCH = msgspec.json.encode(
    {
        "events": [
            {
                "id": f"019ab6a0-7c1e-7d52-8b07-{number:012x}",
                "userId": "ada",
                "courseId": "fire-safety",
                "chapterId": "exits",
                "eventType": "chapter_progress",
                "progress": 40,
                "timeSpent": 30,
                "timestamp": "2026-11-22T09:00:00Z",
            }
            for number in range(10)
        ]
    }
)
_REQUEST = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
_RESPONSE_BODY = b"ok"


def measure_python(loops: int = 150) -> float:
    """Return loops a second over dictionaries, integers and strings."""
    began = time.perf_counter()
    for _ in range(loops):
        counts: dict[str, int] = {}
        for number in range(5_000):
            key = f"learner-{number % 97}"
            counts[key] = counts.get(key, 0) + number * number % 7
    return loops / (time.perf_counter() - began)


def measure_msgspec(batches: int = 20_000) -> float:
    """Return batches a second that the ingest decoder reads."""
    decode = msgspec.json.Decoder(SentBatch).decode
    began = time.perf_counter()
    for _ in range(batches):
        decode(_BATCH)
    return batches / (time.perf_counter() - began)


def measure_sqlite(folder: Path, commits: int = 300) -> float:
    """Return commits a second of one row each, every one with an fsync."""
    connection = sqlite3.connect(folder / "yardstick.db", isolation_level=None)
    try:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("CREATE TABLE IF NOT EXISTS t (id INTEGER PRIMARY KEY, text TEXT)")
        began = time.perf_counter()
        for _ in range(commits):
            connection.execute("INSERT INTO t (text) VALUES (?)", ("x" * 100,))
        return commits / (time.perf_counter() - began)
    finally:
        connection.close()


def measure_asgi(requests: int = 8_000) -> float:
    """Return requests a second of a handler without a framework, over loopback connections.

    Server and clients share one event loop, so that one core decides.
    """
    return run_loop(_serve_and_load(requests))


async def _serve_and_load(requests: int) -> float:
    stop = asyncio.Event()
    url: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    server = asyncio.create_task(
        serve_app(_bare, "127.0.0.1", 0, stop=stop, on_started=url.set_result, grace_seconds=1)
    )
    port = int((await url).rpartition(":")[2])
    try:
        began = time.perf_counter()
        share = requests // CONNECTIONS
        await asyncio.gather(*(_send_requests(port, share) for _ in range(CONNECTIONS)))
        return share * CONNECTIONS / (time.perf_counter() - began)
    finally:
        stop.set()
        await server


async def _bare(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] != "http":
        raise RuntimeError("no lifespan")
    headers = [(b"content-length", b"%d" % len(_RESPONSE_BODY))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": _RESPONSE_BODY})


async def _send_requests(port: int, count: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for _ in range(count):
        writer.write(_REQUEST)
        await reader.readuntil(b"\r\n\r\n" + _RESPONSE_BODY)
    writer.close()
    await writer.wait_closed()


def measure(folder: Path) -> dict[str, float]:
    """Return the best of some rounds by workload: other programs only slow a round down."""
    workloads: dict[str, Callable[[], float]] = {
        "python": measure_python,
        "msgspec": measure_msgspec,
        "sqlite": lambda: measure_sqlite(folder),
        "asgi": measure_asgi,
    }
    best = dict.fromkeys(workloads, 0.0)
    for _ in range(ROUNDS):
        for name, workload in workloads.items():
            best[name] = max(best[name], workload())
    return best


def describe_machine() -> str:
    """Return processor, cores, system and versions in one line."""
    model = platform.processor() or platform.machine()
    for line in Path("/proc/cpuinfo").read_text().splitlines() if sys.platform == "linux" else ():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    return (
        f"{model}, {os.cpu_count()} cores, {platform.system()} {platform.release()},"
        f" Python {platform.python_version()}, {datetime.now(UTC).date().isoformat()}"
    )


def report(figures: dict[str, float]) -> str:
    """Return a table of the figures beside those of the reference."""
    lines = [
        f"this machine: {describe_machine()}",
        f"reference:    {REFERENCE_MACHINE}",
        "",
        f"{'workload':<9} {'this':>10} {'reference':>10} {'factor':>7}",
    ]
    for name, figure in figures.items():
        factor = figure / REFERENCE[name]
        lines.append(
            f"{name:<9} {figure:>10,.0f} {REFERENCE[name]:>10,.0f} {factor:>7.2f}  {UNITS[name]}"
        )
    return "\n".join(lines) + "\n"


def with_reference(source: str, machine: str, figures: dict[str, float]) -> str:
    """Return this file's text with another reference."""
    rows = "".join(f'    "{name}": {figure:.1f},\n' for name, figure in figures.items())
    table = f'REFERENCE_MACHINE = "{machine}"\nREFERENCE: dict[str, float] = {{\n{rows}}}\n'
    return _TABLE.sub(lambda _: table, source, count=1)


def main() -> None:
    """Measure this machine; print its factors, or write it as the reference."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.yardstick",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--write", action="store_true", help="make this machine the reference")
    parser.add_argument(
        "--folder", type=Path, help="folder on the disk to measure (default: build/)"
    )
    options = parser.parse_args()
    configure_logging("warning")
    disk = options.folder or _HERE.parent.parent / "build"
    disk.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=disk) as folder:
        figures = measure(Path(folder))
    if options.write:
        _HERE.write_text(with_reference(_HERE.read_text(), describe_machine(), figures))
        sys.stdout.write(f"{_HERE.name} has this machine as its reference now.\n")
    else:
        sys.stdout.write(report(figures))


if __name__ == "__main__":
    main()
