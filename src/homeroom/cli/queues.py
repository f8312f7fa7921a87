"""``homeroom queues``: list the queues of jobs; limit, pause and resume them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from homeroom.cli import job_view
from homeroom.cli.application import audit_actor, run_with_database
from homeroom.cli.group import JsonOption, LazyModule, command_group, epilog, parse_duration_us
from homeroom.cli.job_view import print_queues, queue_stats
from homeroom.cli.terminal import print_json, print_table, print_text, to_json_fields
from homeroom.errors import BadRequest, NotFound

if TYPE_CHECKING:
    from homeroom.access import api as access
    from homeroom.db.database import Database
    from homeroom.db.tx import Tx
    from homeroom.jobs import queue_store
else:
    access = LazyModule("homeroom.access.api")
    queue_store = LazyModule("homeroom.jobs.queue_store")

QueueArgument = Annotated[
    str, typer.Argument(metavar="QUEUE", help="As `homeroom queues list` shows it.")
]
_LIMIT_COLUMNS = ("QUEUE", "AT ONCE IN EACH WORKER", "STARTS OF ALL WORKERS")

app = command_group("List, limit, pause and resume the queues of jobs.")


@app.command("list", epilog=epilog("homeroom queues list", "homeroom queues list --json"))
def list_queues(as_json: JsonOption = False) -> None:
    """List the queues with their jobs by state, and the limits that are set."""
    queues = run_with_database(queue_stats)
    if as_json:
        print_json({"items": [to_json_fields(each) for each in queues]})
        return
    print_queues(queues)
    rows = [_limit_row(each) for each in queues if any(each["limits"].values())]
    if rows:
        print_text("")
        print_table(_LIMIT_COLUMNS, rows, "")


def _limit_row(queue: dict[str, Any]) -> tuple[str, str, str]:
    limits = queue["limits"]
    concurrency, maximum = limits["concurrency"], limits["rate_max"]
    window = job_view.format_duration(limits["rate_window_seconds"])
    return (
        queue["name"],
        "as the worker's setting" if concurrency is None else str(concurrency),
        "no limit" if maximum is None else f"{maximum} in {window}",
    )


@app.command(
    "set",
    epilog=epilog(
        "homeroom queues set lessonplans --concurrency 1",
        "homeroom queues set dispatch --rate 100/1m",
        "homeroom queues set dispatch --rate none --concurrency none",
        codes=(4,),
    ),
)
def set_limits(
    name: QueueArgument,
    concurrency: Annotated[
        str | None,
        typer.Option(help="Jobs at once in each worker; none: HOMEROOM_CONCURRENCY of the worker."),
    ] = None,
    rate: Annotated[
        str | None,
        typer.Option(help="Jobs that all workers may start in a span, such as 100/1m; or none."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Limit a queue; options that are left out stay as they are.

    The limits are in the database: running workers follow within seconds, and new ones too.
    """
    if concurrency is None and rate is None:
        raise BadRequest("No change was given.", hint="Give --concurrency or --rate.")
    new_concurrency = None if concurrency is None else _parse_number(concurrency, "--concurrency")
    new_rate = None if rate is None else _parse_rate(rate)

    async def change(tx: Tx) -> None:
        queue = await queue_store.find_queue(tx, name)
        kept_concurrency, kept_rate = queue.concurrency, queue.rate
        await queue_store.set_queue_limits(
            tx,
            name,
            concurrency=kept_concurrency if concurrency is None else new_concurrency,
            rate=kept_rate if rate is None else new_rate,
        )
        details = {"concurrency": concurrency, "rate": rate}
        await access.record_audit(tx, audit_actor(), "queue.limited", name, details)

    _change(name, change, "Limited", as_json)


@app.command("pause", epilog=epilog("homeroom queues pause lessonplans", codes=(4,)))
def pause(name: QueueArgument, as_json: JsonOption = False) -> None:
    """Start no more jobs of a queue in any process; running ones go on."""

    async def change(tx: Tx) -> None:
        await queue_store.pause(tx, name)
        await access.record_audit(tx, audit_actor(), "queue.paused", name)

    _change(name, change, "Paused", as_json)


@app.command("resume", epilog=epilog("homeroom queues resume lessonplans", codes=(4,)))
def resume(name: QueueArgument, as_json: JsonOption = False) -> None:
    """Start the jobs of a paused queue again."""

    async def change(tx: Tx) -> None:
        await queue_store.resume(tx, name)
        await access.record_audit(tx, audit_actor(), "queue.resumed", name)

    _change(name, change, "Resumed", as_json)


def _change(
    name: str, change: Callable[[Tx], Awaitable[None]], past_verb: str, as_json: bool
) -> None:
    """Change a queue that exists, and print it."""

    async def act(db: Database) -> dict[str, Any]:
        async with db.write() as tx:
            known = [queue.name for queue in await queue_store.queues(tx)]
            if name not in known:
                raise NotFound(
                    f"There is no queue {name!r}.", hint=f"There are {', '.join(known) or 'none'}."
                )
            await change(tx)
        return next(each for each in await queue_stats(db) if each["name"] == name)

    queue = run_with_database(act)
    if as_json:
        print_json(to_json_fields(queue))
        return
    _, concurrency, rate = _limit_row(queue)
    print_text(f"{past_verb} {name}: at once in each worker {concurrency}, starts {rate}.")


def _parse_number(text: str, option: str) -> int | None:
    if text == "none":
        return None
    if not text.isdecimal() or int(text) < 1:
        raise BadRequest(f"{option} is {text!r}.", hint="Give a number from 1 on, or none.")
    return int(text)


def _parse_rate(text: str) -> Any:
    number, _, span = text.partition("/")
    maximum = _parse_number(number, "--rate")
    if maximum is None:
        return None
    return queue_store.rate_limit(maximum, parse_duration_us(span) / 1_000_000)
