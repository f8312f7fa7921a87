"""``homeroom jobs``: see what jobs do, and retry, cancel or remove them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Annotated, Any, Literal

import typer

from homeroom.access.api import record
from homeroom.cli import job_watch
from homeroom.cli.actor import actor
from homeroom.cli.age import read_age
from homeroom.cli.ask import confirm
from homeroom.cli.group import Json, Yes, epilog, group
from homeroom.cli.house import in_house
from homeroom.cli.job_view import LIST_COLUMNS, job_row, print_job, print_stats, stats
from homeroom.cli.output import counted, note, print_json, print_table, say, visible, wire
from homeroom.db.tx import Tx
from homeroom.errors import BadRequest, HomeroomError, NotFound
from homeroom.jobs import operate, queue_store, store
from homeroom.jobs.job import FINISHED, Job, JobState
from homeroom.jobs.redact import redact_text
from homeroom.jobs.show import attempt_fields, job_fields, log_fields
from homeroom.wiring import House

_PAGE = 200
State = Literal["waiting", "delayed", "waiting-children", "active", "completed", "failed"]
Unfinished = Literal["waiting", "delayed", "waiting-children", "active"]
Queue = Annotated[str | None, typer.Option("--queue", help="Only jobs of this queue.")]
Name = Annotated[str | None, typer.Option("--name", help="Only jobs of this kind.")]
Part = Annotated[
    str | None, typer.Option("--text", help="Only jobs with this in their id, data or last error.")
]
Ids = Annotated[
    list[str] | None, typer.Argument(metavar="ID", help="As `homeroom jobs list` shows them.")
]
All = Annotated[bool, typer.Option("--all", help="All jobs that the options describe; asks first.")]

app = group("See what jobs do, and retry, cancel or remove them.")
app.command(
    "watch",
    epilog=epilog(
        "homeroom jobs watch",
        "homeroom jobs watch --interval 5",
        "homeroom jobs watch --once",
    ),
)(job_watch.watch)


def _state(text: str | None) -> JobState | None:
    return None if text is None else JobState(text)


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
    queue: Queue = None,
    state: Annotated[State | None, typer.Option(help="Only jobs in this state.")] = None,
    name: Name = None,
    text: Part = None,
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="How many at most.")] = 50,
    as_json: Json = False,
) -> None:
    """List jobs, newest first. Secrets in them are hidden, e-mail addresses masked."""
    wanted = store.Filter(queue=queue, state=_state(state), kind=name, text=text)

    queues: Sequence[str] = ()

    async def work(house: House) -> tuple[list[Job], bool]:
        nonlocal queues
        queues = house.registry.queues()
        found: list[Job] = []
        async for page in _pages(house, wanted):
            found += page
            if len(found) > limit:
                break
        return found[:limit], len(found) > limit

    jobs, more = in_house(work)
    if as_json:
        print_json({"items": [wire(job_fields(job)) for job in jobs], "more": more})
        return
    print_table(LIST_COLUMNS, [job_row(job) for job in jobs], "There are no such jobs.")
    if queue is not None and not jobs and queue not in queues:
        note(f"No queue is called {queue!r}; there are {', '.join(queues)}.")
    if more:
        note(f"There are more than these {limit:,}; --limit shows more of them.")


async def _pages(house: House, wanted: store.Filter) -> AsyncIterator[list[Job]]:
    """Yield all jobs of a filter, newest first, some hundred in a read of their own."""
    before: int | None = None
    while True:
        async with house.db.read() as tx:
            rows = await store.search(tx, wanted, limit=_PAGE, before=before)
        yield [job for _, job in rows]
        if len(rows) < _PAGE:
            return
        before = rows[-1][0]


async def _count(house: House, wanted: store.Filter, applies: Callable[[Job], bool]) -> int:
    return sum([sum(map(applies, page)) async for page in _pages(house, wanted)])


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
    as_json: Json = False,
) -> None:
    """Show a job: its data with secrets hidden, its attempts with tracebacks, and its log."""

    async def work(house: House) -> dict[str, Any]:
        async with house.db.read() as tx:
            job = await store.get(tx, job_id)
            return {
                **job_fields(job),
                "attempts": [attempt_fields(each) for each in await store.attempts(tx, job_id)],
                "logs": [log_fields(at, line) for at, line in await store.logs(tx, job_id)],
                "waits_for": await store.waits_for(tx, job_id),
            }

    found = in_house(work)
    if as_json:
        print_json(wire(found))
    else:
        print_job(found)


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
    ids: Ids = None,
    every: All = False,
    queue: Queue = None,
    state: Annotated[Literal["failed"], typer.Option(help="Only failed jobs can be retried.")] = (
        "failed"
    ),
    name: Name = None,
    text: Part = None,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Let failed jobs run again with a fresh set of attempts."""
    wanted = store.Filter(queue=queue, state=JobState(state), kind=name, text=text)
    if _by_filter(ids, every, queue, name, text):
        _bulk("retry", wanted, "Retry {jobs}?", yes=yes, as_json=as_json)
        return

    async def one(house: House, tx: Tx, job_id: str) -> Job:
        return await operate.retry(tx, house.registry, job_id)

    _each(ids or (), one, "job.retried", as_json)


@app.command(
    "cancel",
    epilog=epilog(
        "homeroom jobs cancel 0199c0de-7a3b-7c11-9f7e-2f60b1a2c3d4.hr",
        "homeroom jobs cancel --all --queue dispatch --state delayed",
        codes=(4, 5),
    ),
)
def cancel(
    ids: Ids = None,
    every: All = False,
    queue: Queue = None,
    state: Annotated[Unfinished | None, typer.Option(help="Only jobs in this state.")] = None,
    name: Name = None,
    text: Part = None,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Cancel jobs that have not finished; one that runs ends as soon as its worker has seen it.

    A cancelled job is `failed` with the reason `cancelled`, and can be retried.
    """
    wanted = store.Filter(queue=queue, state=_state(state), kind=name, text=text)
    if _by_filter(ids, every, queue, name, text, state):
        _bulk("cancel", wanted, "Cancel {jobs}?", yes=yes, as_json=as_json)
        return

    async def one(house: House, tx: Tx, job_id: str) -> Job:
        return await operate.cancel(tx, house.registry, job_id)

    _each(ids or (), one, "job.cancelled", as_json)


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
    queue: Queue = None,
    state: Annotated[
        Literal["completed", "failed"], typer.Option(help="Which finished jobs.")
    ] = "completed",
    older_than: Annotated[
        str, typer.Option("--older-than", help="Only those that ended so long ago: 12h, 7d, 2w.")
    ] = "0s",
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Remove finished jobs; asks first. An id that was given stays known, so none runs again."""
    age, chosen = read_age(older_than), JobState(state)

    async def queues(house: House) -> list[str]:
        async with house.db.read() as tx:
            known = [each.name for each in await queue_store.queues(tx)]
        if queue is not None and queue not in known:
            raise NotFound(f"There is no queue {queue!r}.")
        return known if queue is None else [queue]

    async def count(house: House) -> int:
        before = house.db.clock.now() - age
        await queues(house)
        return await _count(
            house,
            store.Filter(queue=queue, state=chosen),
            lambda job: job.finished_at is not None and job.finished_at <= before,
        )

    async def work(house: House) -> int:
        before = house.db.clock.now() - age
        total = 0
        for name in await queues(house):
            while True:
                async with house.db.write() as tx:
                    step = await operate.clean(tx, name, chosen, before=before)
                    if step:
                        details = {"state": state, "olderThan": older_than, "count": step}
                        await record(tx, actor(), "queue.cleaned", name, details)
                total += step
                if not step:
                    break
        return total

    found = in_house(count)
    if found:
        confirm(f"Remove {counted(found, f'{state} job')}?", yes=yes)
    _counted(in_house(work) if found else 0, "Removed", as_json)


@app.command("stats", epilog=epilog("homeroom jobs stats", "homeroom jobs stats --json"))
def stats_(as_json: Json = False) -> None:
    """Count the jobs of each queue by state, and say how long the oldest one has waited."""
    found = in_house(lambda house: stats(house.db))
    if as_json:
        print_json({"items": [wire(each) for each in found]})
    else:
        print_stats(found)


def _by_filter(ids: Sequence[str] | None, every: bool, *filters: str | None) -> bool:
    """Say whether the jobs are described rather than named; raise ``BadRequest`` for a mixture."""
    described = every or any(each is not None for each in filters)
    if ids and described:
        raise BadRequest(
            "Name jobs by their ids, or describe them with --all and options, but not both."
        )
    if not ids and not every:
        raise BadRequest(
            "Which jobs?", hint="Give their ids, or --all with options such as --queue."
        )
    return not ids


def _bulk(
    action: Literal["retry", "cancel"],
    wanted: store.Filter,
    question: str,
    *,
    yes: bool,
    as_json: bool,
) -> None:
    """Ask with the number of jobs, then act on some hundred in each transaction."""
    done = {"retry": "Retried", "cancel": "Cancelled"}[action]

    async def count(house: House) -> int:
        return await _count(
            house, wanted, lambda job: action == "retry" or job.state not in FINISHED
        )

    async def work(house: House) -> int:
        total, before = 0, None
        while True:
            async with house.db.write() as tx:
                step = await operate.act(tx, house.registry, action, wanted, before)
                if step.count:
                    details = {"filter": _told(wanted), "count": step.count}
                    subject = wanted.queue or "jobs"
                    await record(tx, actor(), f"jobs.{done.lower()}", subject, details)
            total, before = total + step.count, step.before
            if before is None:
                return total

    found = in_house(count)
    if found:
        confirm(question.format(jobs=counted(found, "job")), yes=yes)
    _counted(in_house(work) if found else 0, done, as_json)


def _told(wanted: store.Filter) -> dict[str, str]:
    """Return a filter for the audit trail, without what it leaves open and without addresses."""
    members = {
        "queue": wanted.queue,
        "state": wanted.state,
        "name": wanted.kind,
        "q": None if wanted.text is None else redact_text(wanted.text),
    }
    return {name: value for name, value in members.items() if value is not None}


def _counted(number: int, done: str, as_json: bool) -> None:
    if as_json:
        print_json({"count": number})
    else:
        say(f"{done} {counted(number, 'job')}.")


def _each(
    ids: Sequence[str],
    act: Callable[[House, Tx, str], Awaitable[Job]],
    audited_as: str,
    as_json: bool,
) -> None:
    """Act on each job in a transaction of its own; raise the first error at the end."""

    async def work(house: House) -> tuple[list[Job], list[HomeroomError]]:
        jobs: list[Job] = []
        errors: list[HomeroomError] = []
        for job_id in dict.fromkeys(ids):
            try:
                async with house.db.write() as tx:
                    job = await act(house, tx, job_id)
                    await record(tx, actor(), audited_as, job_id)
                jobs.append(job)
            except HomeroomError as error:
                errors.append(error)
        return jobs, errors

    jobs, errors = in_house(work)
    if as_json:
        print_json({"count": len(jobs), "items": [wire(job_fields(job)) for job in jobs]})
    else:
        for job in jobs:
            asked = ", to be cancelled by its worker" if job.cancel_requested else ""
            say(f"{visible(job.id)}: {job.state.value}{asked}")
    for error in errors[1:]:
        note(error.message)
    if errors:
        raise errors[0]
