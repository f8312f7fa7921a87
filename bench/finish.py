"""Does a progress request wait for what follows a finished course? It must not.

Requests that finish a course (its completion, its steps and their jobs are stored in the same
commit, and the worker of the same process starts on them) are timed against requests of the same
learners' course that finish nothing, one after the other, in turns.
"""

import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from bench.load import event_id
from bench.server_process import ServerProcess, run_sandbox, run_server

PAUSE_SECONDS = 0.1
COURSE = {
    "title": "Latency",
    "badgeTemplateId": "0b4ff0a5-6f9b-4b3f-9a58-0d8f2f6f7c11",
    "units": [
        {
            "id": "u",
            "title": "Unit",
            "chapters": [{"id": f"c{n}", "title": f"Chapter {n}"} for n in range(4)],
        }
    ],
}


def _event(user: str, chapter: str, progress: int) -> dict[str, Any]:
    now_ms = time.time_ns() // 1_000_000
    return {
        "id": event_id("v7", now_ms),
        "userId": user,
        "courseId": "latency",
        "chapterId": chapter,
        "eventType": "chapter_progress",
        "progress": progress,
        "timeSpent": 3,
        "timestamp": now_ms,
    }


def _send(server: ServerProcess, *events: dict[str, Any]) -> float:
    started = time.perf_counter()
    answer = server.call("POST", "/api/progress/enhanced-update", {"events": list(events)})
    seconds = time.perf_counter() - started
    assert answer["accepted"] == len(events), answer
    return seconds * 1_000


def measure(learners: int = 300) -> dict[str, Any]:
    """Return p50 and p95 in milliseconds of both kinds of request, and their ratio at p50."""
    finishing, other = [], []
    with (
        run_sandbox() as (_, environment),
        tempfile.TemporaryDirectory() as folder,
        run_server(Path(folder), environment=environment) as server,
    ):
        server.call("PUT", "/api/v1/courses/latency", COURSE)
        for number in range(2 * learners):
            user = f"learner-{number:04}"
            _send(server, *(_event(user, f"c{chapter}", 100) for chapter in range(3)))
        for number in range(learners):
            # Each request finds the server at rest, so that neither kind stands in the shadow of
            # the jobs that the one before it left.
            time.sleep(PAUSE_SECONDS)
            finishing.append(_send(server, _event(f"learner-{number:04}", "c3", 100)))
            time.sleep(PAUSE_SECONDS)
            other.append(_send(server, _event(f"learner-{learners + number:04}", "c3", 50)))
        limit = time.monotonic() + 120
        done = 0
        while done < learners and time.monotonic() < limit:
            rows = server.call("GET", "/api/v1/completions?limit=1000")["items"]
            done = sum(all(s["status"] == "completed" for s in row["steps"]) for row in rows)
            time.sleep(0.2)
    assert done == learners, f"{done} of {learners} completions had all their steps done"

    def at(times: list[float], share: int) -> float:
        return round(statistics.quantiles(times, n=100)[share - 1], 3)

    return {
        "learners": learners,
        "finishingMs": {"p50": at(finishing, 50), "p95": at(finishing, 95)},
        "otherMs": {"p50": at(other, 50), "p95": at(other, 95)},
        "ratioAtP50": round(at(finishing, 50) / at(other, 50), 3),
    }


if __name__ == "__main__":
    print(measure())
