"""What credentials cost that are signed here, and what their certificates cost.

A server signs for its loopback address. `at rest` finishes one course after the other and reads how
long each job took, from its claim to its commit. `at once` finishes the course of many learners
in a few requests, and meanwhile times progress requests of others, one after the other, against the
same requests before. Certificates are rendered by the process that a server starts for each.
"""

import resource
import statistics
import tempfile
import time
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from bench.load import event_id
from bench.server_process import ServerProcess, run_server
from homeroom.clock import Clock
from homeroom.credentials.api import CertificateStyle, IssuerProfile
from homeroom.credentials.open_badges.certificate import (
    CertificateFiles,
    CertificateText,
    ImageForm,
)

PAUSE_SECONDS = 0.05
BATCH = 250
COURSE = {
    "title": "Credentials",
    "units": [{"id": "u", "title": "Unit", "chapters": [{"id": "c", "title": "Chapter"}]}],
}
FORMS: tuple[ImageForm, ...] = ("pdf", "png", "svg")


def _event(user: str, progress: int) -> dict[str, Any]:
    now_ms = time.time_ns() // 1_000_000
    return {
        "id": event_id("v7", now_ms),
        "userId": user,
        "courseId": "credentials",
        "chapterId": "c",
        "eventType": "chapter_progress",
        "progress": progress,
        "timeSpent": 3,
        "timestamp": now_ms,
    }


def _send(server: ServerProcess, *events: dict[str, Any]) -> float:
    started = time.perf_counter()
    answer = server.call("POST", "/api/progress/enhanced-update", {"events": list(events)})
    milliseconds = (time.perf_counter() - started) * 1_000
    assert answer["accepted"] == len(events), answer
    return milliseconds


def _issued(server: ServerProcess) -> int:
    [queue] = [q for q in server.call("GET", "/api/v1/queues") if q["name"] == "credentials"]
    return int(queue["counts"]["completed"])


def _wait_for(server: ServerProcess, count: int) -> None:
    limit = time.monotonic() + 300
    while _issued(server) < count:
        assert time.monotonic() < limit, "the credentials were not issued"
        time.sleep(0.02)


def _job_milliseconds(server: ServerProcess) -> list[float]:
    jobs = server.call("GET", "/api/v1/jobs?queue=credentials&state=completed&limit=100")["items"]
    return [
        (datetime.fromisoformat(job["finishedAt"]) - datetime.fromisoformat(job["startedAt"]))
        / timedelta(milliseconds=1)
        for job in jobs
    ]


def _certificates(count: int) -> dict[str, dict[str, float]]:
    """Return the median processor time and file size of each form."""
    profile = IssuerProfile("https://school.example", "Example School")
    files = CertificateFiles(profile, CertificateStyle(), Clock())
    text = CertificateText(
        url=profile.credential_url("4fTzq0bW1mUuYQ2yqkN8Qw7e"),
        title="Data for everyone",
        holder="Ada Okafor",
        completed_at=1_795_338_000_000_000,
        valid_until=None,
        evidence=(),
        jws="a.b.c",
    )
    found = {}
    for form in FORMS:
        times = []
        for _ in range(count):
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            content = files.render(text, form)
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            times.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
        found[form] = {
            "processor_ms": statistics.median(times) * 1_000,
            "kilobytes": len(content) / 1_000,
        }
    return found


def measure(alone: int = 50, at_once: int = 1_000, files: int = 15) -> dict[str, Any]:
    """Return milliseconds of a signing job, latencies beside many, and certificates."""
    environment = {
        "HOMEROOM_CREDENTIAL_ALLOW_HTTP": "true",
        "HOMEROOM_JOBS_KEEP_COMPLETED": str(alone + at_once),
    }
    with (
        tempfile.TemporaryDirectory() as folder,
        run_server(Path(folder), environment=environment) as server,
    ):
        server.call("PUT", "/api/v1/courses/credentials", COURSE)
        for number in range(alone):
            _send(server, _event(f"alone-{number}", 100))
            _wait_for(server, number + 1)
        signing = _job_milliseconds(server)
        rest = []
        for number in range(max(alone, at_once // 4)):
            time.sleep(PAUSE_SECONDS / 5)
            rest.append(_send(server, _event(f"reader-{number}", 30)))
        for start in range(0, at_once, BATCH):
            some = range(start, min(start + BATCH, at_once))
            _send(server, *(_event(f"crowd-{number}", 100) for number in some))
        began = time.perf_counter()
        busy: list[float] = []
        while len(busy) % 10 or _issued(server) < alone + at_once:
            time.sleep(PAUSE_SECONDS / 5)
            busy.append(_send(server, _event(f"reader-{len(busy)}", 40)))
            assert time.perf_counter() - began < 600, "the credentials were not issued"
        seconds = time.perf_counter() - began

    def at(times: list[float], share: float) -> float:
        return sorted(times)[min(len(times) - 1, int(len(times) * share))]

    return {
        "requests": {
            "before": {"p50_ms": at(rest, 0.5), "p99_ms": at(rest, 0.99), "count": len(rest)},
            "beside the credentials": {
                "p50_ms": at(busy, 0.5),
                "p99_ms": at(busy, 0.99),
                "count": len(busy),
            },
        },
        "certificates": _certificates(files),
        "signing job at rest, median ms": statistics.median(signing),
        "issued at once": at_once,
        "seconds until all were issued": seconds,
        "p99 over before": at(busy, 0.99) / at(rest, 0.99),
    }
