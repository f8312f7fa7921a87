"""Jobs that a command of `homeroom jobs` acts on: some ids, or all that match."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Literal

from homeroom.cli.application import audit_actor, run_with_application, run_with_database
from homeroom.cli.group import LazyModule
from homeroom.cli.terminal import (
    confirm,
    escape_control_characters,
    pluralize,
    print_json,
    print_text,
    print_to_stderr,
    to_json_fields,
)
from homeroom.errors import BadRequest, HomeroomError, NotFound
from homeroom.redaction import redact_text

if TYPE_CHECKING:
    from homeroom.access import api as access
    from homeroom.bootstrap.application import Application
    from homeroom.db.database import Database
    from homeroom.db.tx import Tx
    from homeroom.jobs import api as jobs_api
    from homeroom.jobs import job_actions, job_search, queue_store
    from homeroom.jobs.job import Job
else:
    access = LazyModule("homeroom.access.api")
    job_actions = LazyModule("homeroom.jobs.job_actions")
    job_search = LazyModule("homeroom.jobs.job_search")
    jobs_api = LazyModule("homeroom.jobs.api")
    queue_store = LazyModule("homeroom.jobs.queue_store")


_PAGE_SIZE = 200


async def job_pages(db: Database, query: job_search.JobQuery) -> AsyncIterator[list[Job]]:
    """Yield all jobs of a filter, newest first, one page per read transaction."""
    before: int | None = None
    while True:
        async with db.read() as tx:
            rows = await job_search.search(tx, query, limit=_PAGE_SIZE, before=before)
        yield [job for _, job in rows]
        if len(rows) < _PAGE_SIZE:
            return
        before, _ = rows[-1]


async def count_jobs(
    db: Database, query: job_search.JobQuery, is_counted: Callable[[Job], bool]
) -> int:
    """Return the number of jobs of a filter that a function accepts."""
    return sum([sum(map(is_counted, page)) async for page in job_pages(db, query)])


def selects_by_filter(ids: Sequence[str] | None, all_matching: bool, *filters: str | None) -> bool:
    """Return whether jobs are selected by options instead of ids.

    Raises ``BadRequest`` for both or neither.
    """
    described = all_matching or any(each is not None for each in filters)
    if ids and described:
        raise BadRequest("Select jobs by their ids, or by --all and options, but not both.")
    if not ids and not all_matching:
        raise BadRequest(
            "No jobs were selected.", hint="Give their ids, or --all with options such as --queue."
        )
    return not ids


def act_on_filter(
    action: Literal["retry", "cancel"],
    query: job_search.JobQuery,
    question: str,
    *,
    yes: bool,
    as_json: bool,
) -> None:
    """Ask with the number of jobs, then act on one page per transaction."""
    done = {"retry": "Retried", "cancel": "Cancelled"}[action]

    async def count(db: Database) -> int:
        return await count_jobs(
            db, query, lambda job: action == "retry" or job.state not in jobs_api.FINISHED
        )

    async def act_on_all(application: Application) -> int:
        total, before = 0, None
        while True:
            async with application.db.write() as tx:
                step = await job_actions.apply_bulk_action(
                    tx, application.registry, action, query, before
                )
                if step.count:
                    details = {"filter": filter_details(query), "count": step.count}
                    subject = query.queue or "jobs"
                    await access.record_audit(
                        tx, audit_actor(), f"jobs.{done.lower()}", subject, details
                    )
            total, before = total + step.count, step.before
            if before is None:
                return total

    counted = run_with_database(count)
    if not counted and query.queue is not None:
        _require_queue(query.queue)
    if counted:
        confirm(question.format(jobs=pluralize(counted, "job")), yes=yes)
    print_count(run_with_application(act_on_all) if counted else 0, done, as_json)


def filter_details(query: job_search.JobQuery) -> dict[str, str]:
    """Return the set members of a filter, redacted for the audit trail."""
    members = {
        "queue": query.queue,
        "state": query.state,
        "name": query.kind,
        "q": None if query.text is None else redact_text(query.text),
    }
    return {name: value for name, value in members.items() if value is not None}


def print_count(number: int, done: str, as_json: bool) -> None:
    """Print the number of jobs that an action changed."""
    if as_json:
        print_json({"count": number})
    else:
        print_text(f"{done} {pluralize(number, 'job')}.")


def act_on_each(
    ids: Sequence[str],
    act: Callable[[Application, Tx, str], Awaitable[Job]],
    audit_action: str,
    as_json: bool,
) -> None:
    """Act on each job in a transaction of its own; raise the first error at the end."""

    async def act_on_all(application: Application) -> tuple[list[Job], list[HomeroomError]]:
        jobs: list[Job] = []
        errors: list[HomeroomError] = []
        for job_id in dict.fromkeys(ids):
            try:
                async with application.db.write() as tx:
                    job = await act(application, tx, job_id)
                    await access.record_audit(tx, audit_actor(), audit_action, job_id)
                jobs.append(job)
            except HomeroomError as error:
                errors.append(error)
        return jobs, errors

    jobs, errors = run_with_application(act_on_all)
    if as_json:
        items = [to_json_fields(jobs_api.job_fields(job)) for job in jobs]
        print_json({"count": len(jobs), "items": items})
    else:
        for job in jobs:
            note = ", its worker was asked to cancel it" if job.cancel_requested else ""
            print_text(f"{escape_control_characters(job.id)}: {job.state.value}{note}")
    for error in errors[1:]:
        print_to_stderr(error.message)
    if errors:
        raise errors[0]


def _require_queue(queue: str) -> None:
    """Raise ``NotFound`` for a queue that no job kind has and no job was ever in."""

    async def read_queues(application: Application) -> list[str]:
        async with application.db.read() as tx:
            stored = {each.name for each in await queue_store.queues(tx)}
        return sorted(stored.union(application.registry.queues()))

    known = run_with_application(read_queues)
    if queue not in known:
        raise NotFound(f"There is no queue {queue!r}.", hint=f"There are {', '.join(known)}.")
