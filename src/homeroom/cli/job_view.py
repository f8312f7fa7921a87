"""Show jobs and queues on a terminal or in a pipe."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from homeroom.cli.output import moment, print_table, say, short
from homeroom.db.database import Database
from homeroom.jobs import queue_store, store
from homeroom.jobs.job import Job
from homeroom.jobs.redact import redact_text
from homeroom.jobs.show import queue_fields

LIST_COLUMNS = ("ID", "NAME", "QUEUE", "STATE", "PRIORITY", "ATTEMPTS", "CREATED", "LAST ERROR")
STATS_COLUMNS = (
    "QUEUE",
    "STATUS",
    "WAITING",
    "DELAYED",
    "CHILDREN",
    "ACTIVE",
    "COMPLETED",
    "FAILED",
    "OLDEST",
    "WORKERS",
)
_ERROR_WIDTH = 60


def job_row(job: Job) -> tuple[object, ...]:
    """Return a job as a row of ``LIST_COLUMNS``."""
    error = None if job.last_error is None else redact_text(job.last_error)
    return (
        job.id,
        job.kind,
        job.queue,
        job.state.value,
        job.priority,
        f"{job.attempts}/{job.max_attempts}",
        moment(job.created_at),
        short(error, _ERROR_WIDTH),
    )


async def stats(db: Database) -> list[dict[str, Any]]:
    """Return all queues with their counts, as ``GET /api/v1/queues`` does."""
    async with db.read() as tx:
        queues = await queue_store.queues(tx)
        counts = await store.counts(tx)
        oldest = await queue_store.oldest_waiting(tx)
        workers = await queue_store.workers(tx)
    return [
        queue_fields(queue, counts.get(queue.name, {}), oldest.get(queue.name), workers, tx.now)
        for queue in queues
    ]


def stats_rows(found: Sequence[Mapping[str, Any]]) -> list[tuple[object, ...]]:
    """Return queues as rows of ``STATS_COLUMNS``."""
    return [
        (
            each["name"],
            "paused" if each["paused"] else "running" if each["workers"] else "no worker",
            *each["counts"].values(),
            span(each["oldest_waiting_seconds"]),
            each["workers"],
        )
        for each in found
    ]


def span(seconds: float | None) -> str:
    """Return a span of time, for people."""
    if seconds is None:
        return "-"
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "m")):
        if seconds >= size:
            return f"{seconds / size:.1f}{unit}"
    return f"{seconds:.1f}s"


def print_stats(found: Sequence[Mapping[str, Any]]) -> None:
    """Print the queues."""
    print_table(STATS_COLUMNS, stats_rows(found), "There are no queues yet.")


def print_job(found: Mapping[str, Any]) -> None:
    """Print all that is known of a job."""
    attempts: Sequence[Mapping[str, Any]] = found["attempts"]
    facts = {
        "id": found["id"],
        "name": found["name"],
        "queue": found["queue"],
        "state": found["state"].value,
        "priority": found["priority"],
        "attempts": f"{found['attempts_made']} of {found['max_attempts']}",
        "created": moment(found["created_at"]),
        "runs at": moment(found["run_at"]),
        "started": moment(found["started_at"]),
        "finished": moment(found["finished_at"]),
        "worker": found["worker"] or "-",
        "waits for": " ".join(found["waits_for"]) or "-",
        "cancelling": "yes" if found["cancel_requested"] else "no",
        "progress": _shown(found["progress"]),
        "data": _shown(found["data"]),
        "result": _shown(found["result"]),
        "last error": found["failed_reason"] or "-",
    }
    width = max(map(len, facts)) + 2
    for name, value in facts.items():
        first, *rest = str(value).split("\n")
        say(name.ljust(width) + first)
        for line in rest:
            say(" " * width + line)
    for each in attempts:
        took = (each["finished_at"] - each["started_at"]) / 1_000_000
        say(
            f"\nattempt {each['number']}: {each['outcome']},"
            f" {moment(each['started_at'])}, took {took:.3f} s"
        )
        text = each["traceback"] or each["error"]
        if text:
            say("\n".join(f"    {line}" for line in text.rstrip().split("\n")))
    if found["logs"]:
        say("\nlog")
    for line in found["logs"]:
        say(f"    {moment(line['at'])}  {line['line']}")


def _shown(value: Any) -> str:
    return "-" if value is None else json.dumps(value, ensure_ascii=False)
