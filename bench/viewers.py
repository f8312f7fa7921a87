"""Measure what an ingest request costs while viewers follow the hints of changes.

One client sends requests one after the other, first without viewers, then with as many streams of
`GET /api/v1/events` as a server allows. The streams are read by a process of their own.

    python -m bench.viewers --viewers 1000 --requests 200
"""

import argparse
import asyncio
import contextlib
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median, quantiles
from typing import Any

from bench.server_process import ServerProcess, run_server, stop_process
from homeroom.monitoring.hint_stream import MAX_STREAMS_PER_IDENTITY, PUBLISH_SECONDS

COURSE = {
    "title": "Followed",
    "units": [
        {
            "id": "u",
            "title": "U",
            "chapters": [{"id": f"c{number}", "title": f"C{number}"} for number in range(10)],
        }
    ],
}
_PAUSE_SECONDS = 0.02
_START_SECONDS = 120.0


def measure(viewers: int = 1_000, requests: int = 200) -> dict[str, Any]:
    """Return milliseconds of a request with and without viewers, and the ratio of the medians."""
    with (
        tempfile.TemporaryDirectory() as folder,
        run_server(Path(folder), "--no-worker") as server,
    ):
        server.call("PUT", "/api/v1/courses/followed", COURSE)
        _send(server, "warm-up", 20)
        without = _send(server, "without", requests)
        with _viewers(server, viewers) as reader:
            beside = _send(server, "with", requests)
            time.sleep(2 * PUBLISH_SECONDS)
            assert reader.stdin is not None
            assert reader.stdout is not None
            reader.stdin.close()
            hints = json.loads(reader.stdout.readline())["hints"]
    if hints < viewers:
        raise RuntimeError(f"{viewers} viewers got {hints} hints: they did not follow")
    return {
        "viewers": viewers,
        "hints": hints,
        "without viewers": without,
        "with viewers": beside,
        "ratio of p50": round(beside["p50_ms"] / without["p50_ms"], 2),
    }


def _send(server: ServerProcess, name: str, requests: int) -> dict[str, float]:
    """Send bodies of ten events, each of another learner; return percentiles."""
    seconds = []
    for number in range(requests):
        body = [
            {
                "id": f"{name}-{number}-{chapter}",
                "userId": f"{name}-{number}",
                "courseId": "followed",
                "chapterId": f"c{chapter}",
                "eventType": "chapter_progress",
                "progress": 40,
                "timestamp": "2026-11-22T09:00:00Z",
            }
            for chapter in range(10)
        ]
        began = time.perf_counter()
        answer = server.call("POST", "/api/progress/enhanced-update", body)
        seconds.append(time.perf_counter() - began)
        if answer["accepted"] != len(body):
            raise RuntimeError(f"not all events were accepted: {answer}")
        time.sleep(_PAUSE_SECONDS)
    return {
        "p50_ms": round(1_000 * median(seconds), 2),
        "p95_ms": round(1_000 * quantiles(seconds, n=20)[-1], 2),
    }


@contextlib.contextmanager
def _viewers(server: ServerProcess, count: int) -> Iterator[subprocess.Popen[str]]:
    """Run a process that reads ``count`` streams; it ends with its standard input."""
    keys = [
        server.call("POST", "/api/v1/keys", {"name": f"viewer-{number}", "roles": ["viewer"]})[
            "token"
        ]
        for number in range(-(-count // MAX_STREAMS_PER_IDENTITY))
    ]
    words = ["--read", str(server.port), "--viewers", str(count), "--keys", ",".join(keys)]
    process = subprocess.Popen(
        [sys.executable, "-m", "bench.viewers", *words],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        if json.loads(process.stdout.readline())["opened"] != count:
            raise RuntimeError("not all streams were opened")
        yield process
    finally:
        stop_process(process)  # type: ignore[arg-type]
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()


async def _read_streams(port: int, count: int, keys: list[str]) -> None:
    """Open streams, say so, and count their hints until standard input ends."""
    counts = [0] * count
    opened = asyncio.Semaphore(0)

    async def read(number: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        key = keys[number // MAX_STREAMS_PER_IDENTITY]
        head = f"GET /api/v1/events HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer {key}\r\n\r\n"
        writer.write(head.encode())
        status = await reader.readline()
        if b" 200 " not in status:
            raise RuntimeError(f"a stream was refused: {status.decode()}")
        opened.release()
        while data := await reader.read(65_536):
            counts[number] += data.count(b"data:")

    tasks = [asyncio.create_task(read(number)) for number in range(count)]
    async with asyncio.timeout(_START_SECONDS):
        for _ in range(count):
            await opened.acquire()
    sys.stdout.write(json.dumps({"opened": count}) + "\n")
    sys.stdout.flush()
    await asyncio.to_thread(sys.stdin.read)
    sys.stdout.write(json.dumps({"hints": sum(counts)}) + "\n")
    sys.stdout.flush()
    for task in tasks:
        task.cancel()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m bench.viewers", description=__doc__)
    parser.add_argument("--viewers", type=int, default=1_000)
    parser.add_argument("--requests", type=int, default=200)
    parser.add_argument("--read", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--keys", default="", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.read is None:
        print(json.dumps(measure(options.viewers, options.requests), indent=2))
    else:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        asyncio.run(_read_streams(options.read, options.viewers, options.keys.split(",")))
