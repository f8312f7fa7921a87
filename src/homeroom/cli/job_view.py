"""Show jobs and queues on a terminal or in a pipe."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from homeroom.cli.application import run_with_database
from homeroom.cli.group import LazyModule
from homeroom.cli.terminal import (
    format_instant,
    plain_table,
    print_table,
    print_text,
    print_to_stderr,
    rich_table,
    truncate_line,
)
from homeroom.redaction import redact_text

if TYPE_CHECKING:
    import asyncio

    from rich import console as rich_console
    from rich import live as rich_live
    from rich import text as rich_text

    from homeroom.bootstrap import job_subjects
    from homeroom.db.database import Database
    from homeroom.jobs import api as jobs_api
    from homeroom.jobs import job_search, queue_store, store
    from homeroom.jobs.job import Job
    from homeroom.jobs.subject import JobSubject
else:
    asyncio = LazyModule("asyncio")
    rich_console = LazyModule("rich.console")
    rich_live = LazyModule("rich.live")
    rich_text = LazyModule("rich.text")
    job_subjects = LazyModule("homeroom.bootstrap.job_subjects")
    jobs_api = LazyModule("homeroom.jobs.api")
    job_search = LazyModule("homeroom.jobs.job_search")
    queue_store = LazyModule("homeroom.jobs.queue_store")
    store = LazyModule("homeroom.jobs.store")

JOB_COLUMNS = (
    "ID",
    "NAME",
    "QUEUE",
    "STATE",
    "FOR",
    "PRIORITY",
    "ATTEMPTS",
    "CREATED",
    "LAST ERROR",
)
QUEUE_COLUMNS = (
    "QUEUE",
    "STATUS",
    "WAITING",
    "DELAYED",
    "CHILDREN",
    "ACTIVE",
    "COMPLETED",
    "FAILED",
    "CANCELLED",
    "OLDEST",
    "WORKERS",
)
WORKER_COLUMNS = ("WORKER", "STATE", "HOST", "PID", "ACTIVE", "STARTED", "HEARTBEAT")
_ERROR_WIDTH = 60
_WATCH_LIMIT = 8
"""Jobs shown in each state by ``homeroom jobs watch``."""


@dataclass(frozen=True, slots=True)
class JobsSnapshot:
    """Queues and jobs at one instant (``at``, microseconds UTC)."""

    at: int
    queues: list[dict[str, Any]]
    active: list[Job]
    failed: list[Job]
    subjects: dict[str, JobSubject]
    """The learners and courses of these jobs, by job id."""


def job_row(job: Job, subject: JobSubject) -> tuple[object, ...]:
    """Return a job with the learner and course that it is for, as ``JOB_COLUMNS``."""
    error = None if job.last_error is None else redact_text(job.last_error)
    return (
        job.id,
        job.kind,
        job.queue,
        job.state.value,
        " ".join(part for part in (subject.user_id, subject.course_id) if part) or "-",
        job.priority,
        f"{job.attempts}/{job.max_attempts}",
        format_instant(job.created_at),
        truncate_line(error, _ERROR_WIDTH),
    )


async def queue_stats(db: Database) -> list[dict[str, Any]]:
    """Return all queues with their counts, as in ``GET /api/v1/queues``."""
    async with db.read() as tx:
        queues = await queue_store.queues(tx)
        counts = await queue_store.counts(tx)
        oldest = await queue_store.oldest_waiting(tx)
        workers = await queue_store.workers(tx)
    return [
        jobs_api.queue_fields(
            queue, counts.get(queue.name, {}), oldest.get(queue.name), workers, tx.now
        )
        for queue in queues
    ]


def queue_rows(queues: Sequence[Mapping[str, Any]]) -> list[tuple[object, ...]]:
    """Return queues as rows of ``QUEUE_COLUMNS``."""
    return [
        (
            each["name"],
            _queue_state(each),
            *each["counts"].values(),
            format_duration(each["oldest_waiting_seconds"]),
            each["workers"],
        )
        for each in queues
    ]


def _queue_state(queue: Mapping[str, Any]) -> str:
    if queue["paused"]:
        return "paused"
    if not queue["workers"]:
        return "no worker"
    return "limited" if queue["redis_limits"] else "running"


def redis_limit_notes(queues: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return a sentence for each queue that is limited in Redis."""
    notes = []
    for queue in queues:
        limits = queue["redis_limits"]
        if limits is None:
            continue
        parts = []
        if limits["concurrency"] is not None:
            parts.append(f"{limits['concurrency']} at once")
        if limits["rate_max"] is not None:
            parts.append(f"{limits['rate_max']} in {limits['rate_window_seconds'] or 0:g} s")
        notes.append(
            f"{queue['name']} is limited to {' and '.join(parts)} in all workers together."
            " That was set in Redis, as by Bull Board: remove it there."
        )
    return notes


async def read_workers(db: Database) -> list[dict[str, Any]]:
    """Return the workers, as in ``GET /api/v1/workers``."""
    async with db.read() as tx:
        return [jobs_api.worker_fields(worker) for worker in await queue_store.workers(tx)]


def print_workers(workers: Sequence[Mapping[str, Any]]) -> None:
    """Print the workers as a table."""
    rows = [
        (
            each["id"],
            each["state"],
            each["host"],
            each["pid"],
            each["active"],
            format_instant(each["started_at"]),
            format_instant(each["heartbeat_at"]),
        )
        for each in workers
    ]
    print_table(WORKER_COLUMNS, rows, "There are no workers.")


def format_duration(seconds: float | None) -> str:
    """Return a duration with its unit, such as ``1.5h``; a dash for None."""
    if seconds is None:
        return "-"
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "m")):
        if seconds >= size:
            return f"{seconds / size:.1f}{unit}"
    return f"{seconds:.1f}s"


def print_queues(queues: Sequence[Mapping[str, Any]]) -> None:
    """Print the queues as a table."""
    print_table(QUEUE_COLUMNS, queue_rows(queues), "There are no queues yet.")
    for note in redis_limit_notes(queues):
        print_to_stderr(note)


def print_job(fields: Mapping[str, Any]) -> None:
    """Print a job with its attempts and its log."""
    attempts: Sequence[Mapping[str, Any]] = fields["attempts"]
    facts = {
        "id": fields["id"],
        "name": fields["name"],
        "queue": fields["queue"],
        "state": fields["state"].value,
        "learner": fields["user_id"] or "-",
        "course": fields["course_id"] or "-",
        "completion": fields["completion_id"] or "-",
        "priority": fields["priority"],
        "attempts": f"{fields['attempts_made']} of {fields['max_attempts']}",
        "created": format_instant(fields["created_at"]),
        "runs at": format_instant(fields["run_at"]),
        "started": format_instant(fields["started_at"]),
        "finished": format_instant(fields["finished_at"]),
        "worker": fields["worker"] or "-",
        "waits for": " ".join(fields["waits_for"]) or "-",
        "cancelling": "yes" if fields["cancel_requested"] else "no",
        "progress": _json_or_dash(fields["progress"]),
        "data": _json_or_dash(fields["data"]),
        "result": _json_or_dash(fields["result"]),
        "last error": fields["failed_reason"] or "-",
    }
    width = max(map(len, facts)) + 2
    for name, value in facts.items():
        first, *rest = str(value).split("\n")
        print_text(name.ljust(width) + first)
        for line in rest:
            print_text(" " * width + line)
    for each in attempts:
        duration_seconds = (each["finished_at"] - each["started_at"]) / 1_000_000
        print_text(
            f"\nattempt {each['number']}: {each['outcome']},"
            f" {format_instant(each['started_at'])}, took {duration_seconds:.3f} s"
        )
        text = each["traceback"] or each["error"]
        if text:
            print_text("\n".join(f"    {line}" for line in text.rstrip().split("\n")))
    if fields["logs"]:
        print_text("\nlog")
    for line in fields["logs"]:
        print_text(f"    {format_instant(line['at'])}  {line['line']}")


def _json_or_dash(value: Any) -> str:
    return "-" if value is None else json.dumps(value, ensure_ascii=False)


def watch(
    interval: Annotated[
        float, typer.Option(min=0.1, max=3_600, help="Seconds between two refreshes.")
    ] = 1.0,
    once: Annotated[bool, typer.Option("--once", help="Print one snapshot, then end.")] = False,
) -> None:
    """Watch queues, running jobs and failed ones until Ctrl-C.

    A terminal is refreshed in place; in a pipe each snapshot is printed below the last.
    """
    is_terminal = sys.stdout.isatty()

    async def show(db: Database) -> None:
        if once or not is_terminal:
            await _print_snapshots(db, interval, once)
        else:
            await _show_live(db, interval)

    with contextlib.suppress(KeyboardInterrupt, BrokenPipeError):
        run_with_database(show)


async def read_snapshot(db: Database) -> JobsSnapshot:
    """Read the queues, the running jobs and the latest failed ones."""
    queues = await queue_stats(db)
    is_active = job_search.JobQuery(state=jobs_api.JobState.ACTIVE)
    is_failed = job_search.JobQuery(state=jobs_api.JobState.FAILED)
    async with db.read() as tx:
        active = await job_search.search(tx, is_active, limit=_WATCH_LIMIT)
        failed = await job_search.search(tx, is_failed, limit=_WATCH_LIMIT)
        subjects = await job_subjects.JOB_SUBJECTS.describe(
            tx, [job for _, job in (*active, *failed)]
        )
        now = tx.now
    return JobsSnapshot(
        now, queues, [job for _, job in active], [job for _, job in failed], subjects
    )


async def _show_live(db: Database, interval: float) -> None:
    with rich_live.Live(
        _render_snapshot(await read_snapshot(db)),
        console=rich_console.Console(),
        auto_refresh=False,
        screen=False,
    ) as live:
        while True:
            await asyncio.sleep(interval)
            live.update(_render_snapshot(await read_snapshot(db)), refresh=True)


async def _print_snapshots(db: Database, interval: float, once: bool) -> None:
    while True:
        sys.stdout.write(_snapshot_text(await read_snapshot(db)))
        sys.stdout.flush()
        if once:
            return
        await asyncio.sleep(interval)


def _render_snapshot(snapshot: JobsSnapshot) -> rich_console.RenderableType:
    parts: list[rich_console.RenderableType] = [
        rich_text.Text(f"{format_instant(snapshot.at)}   Ctrl-C ends this")
    ]
    parts.append(rich_table(QUEUE_COLUMNS, queue_rows(snapshot.queues)))
    for title, jobs in (("Running", snapshot.active), ("Failed, newest first", snapshot.failed)):
        if jobs:
            parts += [
                rich_text.Text(title, style="bold"),
                rich_table(JOB_COLUMNS, [job_row(job, snapshot.subjects[job.id]) for job in jobs]),
            ]
    return rich_console.Group(*parts)


def _snapshot_text(snapshot: JobsSnapshot) -> str:
    parts = [
        f"{format_instant(snapshot.at)}\n",
        plain_table(QUEUE_COLUMNS, queue_rows(snapshot.queues)),
    ]
    for title, jobs in (("Running", snapshot.active), ("Failed, newest first", snapshot.failed)):
        if jobs:
            parts.append(
                f"{title}\n"
                + plain_table(
                    JOB_COLUMNS, [job_row(job, snapshot.subjects[job.id]) for job in jobs]
                )
            )
    return "".join(parts) + "\n"
