"""``homeroom jobs``: list and watch jobs; retry, cancel and remove them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from homeroom.cli import job_view
from homeroom.cli.application import audit_actor, run_with_application, run_with_database
from homeroom.cli.group import (
    JsonOption,
    LazyModule,
    YesOption,
    command_group,
    epilog,
    parse_duration_us,
)
from homeroom.cli.job_selection import (
    act_on_each,
    act_on_filter,
    job_pages,
    print_count,
    selects_by_filter,
)
from homeroom.cli.job_view import JOB_COLUMNS, job_row, print_job, print_queues, queue_stats
from homeroom.cli.terminal import (
    confirm,
    pluralize,
    print_json,
    print_table,
    print_to_stderr,
    to_json_fields,
)
from homeroom.errors import NotFound

if TYPE_CHECKING:
    from homeroom.access import api as access
    from homeroom.bootstrap import job_subjects
    from homeroom.bootstrap.application import Application
    from homeroom.db.database import Database
    from homeroom.db.tx import Tx
    from homeroom.jobs import api as jobs_api
    from homeroom.jobs import job_actions, job_search, queue_store, store
    from homeroom.jobs.job import Job, JobState
    from homeroom.jobs.subject import JobSubject
else:
    access = LazyModule("homeroom.access.api")
    job_actions = LazyModule("homeroom.jobs.job_actions")
    job_subjects = LazyModule("homeroom.bootstrap.job_subjects")
    jobs_api = LazyModule("homeroom.jobs.api")
    job_search = LazyModule("homeroom.jobs.job_search")
    queue_store = LazyModule("homeroom.jobs.queue_store")
    store = LazyModule("homeroom.jobs.store")

JobStateName = Literal["waiting", "delayed", "waiting-children", "active", "completed", "failed"]
UnfinishedStateName = Literal["waiting", "delayed", "waiting-children", "active"]
QueueOption = Annotated[str | None, typer.Option("--queue", help="Only jobs of this queue.")]
KindOption = Annotated[str | None, typer.Option("--name", help="Only jobs of this kind.")]
TextOption = Annotated[
    str | None,
    typer.Option(
        "--text",
        help="Only jobs with this in their id, data, last error, or the id of their learner or"
        " course. All completed ones only by a whole id, or with --state completed.",
    ),
]
JobIdsArgument = Annotated[
    list[str] | None, typer.Argument(metavar="ID", help="As `homeroom jobs list` shows them.")
]
AllOption = Annotated[
    bool, typer.Option("--all", help="All jobs that match the options; asks first.")
]

app = command_group("List and watch jobs; retry, cancel or remove them.")
app.command(
    "watch",
    epilog=epilog(
        "homeroom jobs watch",
        "homeroom jobs watch --interval 5",
        "homeroom jobs watch --once",
    ),
)(job_view.watch)


def _query(
    queue: str | None,
    state: JobState | None,
    name: str | None,
    text: str | None,
    done: bool | None = None,
) -> job_search.JobQuery:
    if text is None:
        return job_search.JobQuery(queue, state, name, done=done)
    return job_search.JobQuery(queue, state, name, text, job_subjects.JOB_SUBJECTS, done)


def _job_state(text: str | None) -> JobState | None:
    return None if text is None else jobs_api.JobState(text)


@app.command(
    "list",
    epilog=epilog(
        "homeroom jobs list",
        "homeroom jobs list --queue credentials --state failed",
        "homeroom jobs list --name completion.credential --text u-1042",
        "homeroom jobs list --state failed --json | jq -r '.items[].id'",
    ),
)
def list_(
    queue: QueueOption = None,
    state: Annotated[JobStateName | None, typer.Option(help="Only jobs in this state.")] = None,
    name: KindOption = None,
    text: TextOption = None,
    done: Annotated[
        bool | None, typer.Option("--done/--not-done", help="Only jobs that are completed, or not.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="How many at most.")] = 50,
    as_json: JsonOption = False,
) -> None:
    """List jobs, newest first. Secrets in them are hidden, e-mail addresses masked."""
    query = _query(queue, _job_state(state), name, text, done)

    async def read_jobs(db: Database) -> tuple[list[Job], dict[str, JobSubject], bool]:
        jobs: list[Job] = []
        async for page in job_pages(db, query):
            jobs += page
            if len(jobs) > limit:
                break
        async with db.read() as tx:
            subjects = await job_subjects.JOB_SUBJECTS.describe(tx, jobs[:limit])
        return jobs[:limit], subjects, len(jobs) > limit

    jobs, subjects, has_more = run_with_database(read_jobs)
    if as_json:
        items = [
            to_json_fields({**jobs_api.job_fields(job), **asdict(subjects[job.id])}) for job in jobs
        ]
        print_json({"items": items, "more": has_more})
        return
    rows = [job_row(job, subjects[job.id]) for job in jobs]
    print_table(JOB_COLUMNS, rows, "There are no such jobs.")
    if queue is not None and not jobs:
        _report_unknown_queue(queue)
    if has_more:
        print_to_stderr(f"There are more than these {limit:,}; --limit shows more of them.")


def _report_unknown_queue(queue: str) -> None:
    """List the known queues if this one is unknown; that loads all features."""

    async def read_queues(application: Application) -> Sequence[str]:
        return application.registry.queues()

    queues = run_with_application(read_queues)
    if queue not in queues:
        print_to_stderr(f"There is no queue {queue!r}; there are {', '.join(queues)}.")


@app.command(
    "show",
    epilog=epilog(
        "homeroom jobs show 0199c0de-7a3b-7c11-9f7e-2f60b1a2c3d4",
        "homeroom jobs show 0199c0de-7a3b-7c11-9f7e-2f60b1a2c3d4.credential --json",
        codes=(4,),
    ),
)
def show(
    job_id: Annotated[str, typer.Argument(metavar="ID")],
    as_json: JsonOption = False,
) -> None:
    """Show a job with its attempts and its log. Secrets in it are hidden."""

    async def read_job(db: Database) -> dict[str, Any]:
        async with db.read() as tx:
            job = await store.get(tx, job_id)
            attempts = await store.attempts(tx, job_id)
            logs = await store.logs(tx, job_id)
            subjects = await job_subjects.JOB_SUBJECTS.describe(tx, [job])
            return {
                **jobs_api.job_fields(job),
                **asdict(subjects[job_id]),
                "attempts": [jobs_api.attempt_fields(each) for each in attempts],
                "logs": [jobs_api.log_line_fields(at, line) for at, line in logs],
                "waits_for": await store.dependencies_of(tx, job_id),
            }

    fields = run_with_database(read_job)
    if as_json:
        print_json(to_json_fields(fields))
    else:
        print_job(fields)


@app.command(
    "retry",
    epilog=epilog(
        "homeroom jobs retry 0199c0de-7a3b-7c11-9f7e-2f60b1a2c3d4.credential",
        "homeroom jobs retry --all --queue credentials --state failed",
        "homeroom jobs retry --all --text 'answered 503' --yes",
        codes=(4, 5),
    ),
)
def retry(
    ids: JobIdsArgument = None,
    all_matching: AllOption = False,
    queue: QueueOption = None,
    state: Annotated[Literal["failed"], typer.Option(help="Only failed jobs can be retried.")] = (
        "failed"
    ),
    name: KindOption = None,
    text: TextOption = None,
    yes: YesOption = False,
    as_json: JsonOption = False,
) -> None:
    """Run failed jobs again with a fresh set of attempts."""
    query = _query(queue, _job_state(state), name, text)
    if selects_by_filter(ids, all_matching, queue, name, text):
        act_on_filter("retry", query, "Retry {jobs}?", yes=yes, as_json=as_json)
        return

    async def act(application: Application, tx: Tx, job_id: str) -> Job:
        return await job_actions.retry(tx, application.registry, job_id)

    act_on_each(ids or (), act, "job.retried", as_json)


@app.command(
    "cancel",
    epilog=epilog(
        "homeroom jobs cancel 0199c0de-7a3b-7c11-9f7e-2f60b1a2c3d4.hr",
        "homeroom jobs cancel --all --queue dispatch --state delayed",
        codes=(4, 5),
    ),
)
def cancel(
    ids: JobIdsArgument = None,
    all_matching: AllOption = False,
    queue: QueueOption = None,
    state: Annotated[
        UnfinishedStateName | None, typer.Option(help="Only jobs in this state.")
    ] = None,
    name: KindOption = None,
    text: TextOption = None,
    yes: YesOption = False,
    as_json: JsonOption = False,
) -> None:
    """Cancel jobs that have not finished; the worker stops one that runs.

    A cancelled job is `failed` with the reason `cancelled`, and can be retried.
    """
    query = _query(queue, _job_state(state), name, text)
    if selects_by_filter(ids, all_matching, queue, name, text, state):
        act_on_filter("cancel", query, "Cancel {jobs}?", yes=yes, as_json=as_json)
        return

    async def act(application: Application, tx: Tx, job_id: str) -> Job:
        return await job_actions.cancel(tx, application.registry, job_id)

    act_on_each(ids or (), act, "job.cancelled", as_json)


@app.command(
    "clean",
    epilog=epilog(
        "homeroom jobs clean --older-than 30d",
        "homeroom jobs clean --queue dispatch --state failed --older-than 7d",
        "homeroom jobs clean --state completed --yes",
        codes=(4,),
    ),
)
def clean(
    queue: QueueOption = None,
    state: Annotated[
        Literal["completed", "failed"], typer.Option(help="Which finished jobs.")
    ] = "completed",
    older_than: Annotated[
        str, typer.Option("--older-than", help="Only those that ended that long ago: 12h, 7d, 2w.")
    ] = "0s",
    outstanding: Annotated[
        bool,
        typer.Option("--outstanding", help="Failed jobs too that something waits for, as a step."),
    ] = False,
    yes: YesOption = False,
    as_json: JsonOption = False,
) -> None:
    """Remove finished jobs; asks first.

    Their ids stay known, so that none runs again. Failed jobs that something still waits for, such
    as the step of a completion, are kept unless you say --outstanding.
    """
    age_us, chosen = parse_duration_us(older_than), jobs_api.JobState(state)

    async def queue_names(db: Database) -> list[str]:
        async with db.read() as tx:
            names = [each.name for each in await queue_store.queues(tx)]
        if queue is not None and queue not in names:
            raise NotFound(f"There is no queue {queue!r}.")
        return names if queue is None else [queue]

    async def count(db: Database) -> tuple[int, int]:
        before = db.clock.now() - age_us
        names = await queue_names(db)
        async with db.read() as tx:
            counts = [
                await job_actions.count_cleanable(tx, name, chosen, before, outstanding=outstanding)
                for name in names
            ]
        return sum(removed for removed, _ in counts), sum(kept for _, kept in counts)

    async def remove(db: Database) -> int:
        before = db.clock.now() - age_us
        total = 0
        for name in await queue_names(db):
            while True:
                async with db.write() as tx:
                    removed = await job_actions.clean(
                        tx, name, chosen, before=before, outstanding=outstanding
                    )
                    if removed:
                        details = {"state": state, "olderThan": older_than, "count": removed}
                        details |= {"outstanding": True} if outstanding else {}
                        await access.record_audit(tx, audit_actor(), "queue.cleaned", name, details)
                total += removed
                if not removed:
                    break
        return total

    counted, kept = run_with_database(count)
    if kept:
        print_to_stderr(
            f"{pluralize(kept, 'failed job')} that something waits for will be kept;"
            " --outstanding removes those too."
        )
    if counted:
        confirm(f"Remove {pluralize(counted, f'{state} job')}?", yes=yes)
    print_count(run_with_database(remove) if counted else 0, "Removed", as_json)


@app.command("stats", epilog=epilog("homeroom jobs stats", "homeroom jobs stats --json"))
def stats(as_json: JsonOption = False) -> None:
    """Count the jobs of each queue by state, and show the age of the oldest."""
    queues = run_with_database(queue_stats)
    if as_json:
        print_json({"items": [to_json_fields(each) for each in queues]})
    else:
        print_queues(queues)


@app.command("workers", epilog=epilog("homeroom jobs workers", "homeroom jobs workers --json"))
def workers(as_json: JsonOption = False) -> None:
    """List the workers: running, stale (silent for one lease) or gone (for two)."""
    rows = run_with_database(job_view.read_workers)
    if as_json:
        print_json({"items": [to_json_fields(each) for each in rows]})
    else:
        job_view.print_workers(rows)
