"""``homeroom top``: queues, workers, rates, outstanding steps and partners, live."""

from __future__ import annotations

import contextlib
import shutil
import sys
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from homeroom.cli.application import run_with_application
from homeroom.cli.group import LazyModule, command_group, epilog
from homeroom.cli.job_view import format_duration, queue_stats, read_workers
from homeroom.cli.terminal import escape_control_characters, format_instant
from homeroom.instant import SECOND

if TYPE_CHECKING:
    import asyncio

    from rich import console as rich_console
    from rich import live as rich_live
    from rich import text as rich_text

    from homeroom.bootstrap.application import Application
    from homeroom.completion.api import StepCounts
    from homeroom.db.tx import Tx
    from homeroom.dispatch.destinations import DestinationStatus
else:
    asyncio = LazyModule("asyncio")
    rich_console = LazyModule("rich.console")
    rich_live = LazyModule("rich.live")
    rich_text = LazyModule("rich.text")

_WIDTH = 80
"""Columns of a picture that goes into a file or a pipe."""
_OPEN_STATES = ("waiting", "delayed", "waiting_children", "active")
_MINUTE, _HOUR = 60 * SECOND, 3_600 * SECOND

app = command_group("Show queues, workers, rates, outstanding steps and partners, live.")


@dataclass(frozen=True, slots=True)
class Picture:
    """The state of Homeroom at one instant (``at``, microseconds UTC)."""

    at: int
    queues: Sequence[Mapping[str, Any]]
    workers: Sequence[Mapping[str, Any]]
    destinations: Sequence[DestinationStatus]
    steps: StepCounts
    completions: tuple[int, int]
    """Completions of the last minute and of the last hour."""
    last_seq: int
    """The sequence number of the newest job."""

    @property
    def open_jobs(self) -> int:
        """Return the number of jobs that have not ended."""
        return sum(queue["counts"][state] for queue in self.queues for state in _OPEN_STATES)


@app.command(
    "top", epilog=epilog("homeroom top", "homeroom top --interval 5", "homeroom top --once")
)
def top(
    interval: Annotated[
        float, typer.Option(min=0.1, max=3_600, help="Seconds between two refreshes.")
    ] = 2.0,
    once: Annotated[bool, typer.Option("--once", help="Print one picture, then end.")] = False,
) -> None:
    """Show queues, workers, rates, outstanding steps and partners, live.

    Ctrl-C ends it. Queues without jobs and partners that are on are one line together. Rates of
    jobs are those since the picture before; the first one has none.
    """
    live = sys.stdout.isatty() and not once

    async def show(application: Application) -> None:
        if live:
            await _show_live(application, interval)
            return
        before = None
        while True:
            picture = await read_picture(application)
            sys.stdout.write("\n".join(lines_of(picture, before, _WIDTH)) + "\n")
            sys.stdout.flush()
            if once:
                return
            sys.stdout.write("\n")
            before = picture
            await asyncio.sleep(interval)

    with contextlib.suppress(KeyboardInterrupt, BrokenPipeError):
        run_with_application(show)


async def _show_live(application: Application, interval: float) -> None:
    before: Picture | None = None
    with rich_live.Live(
        console=rich_console.Console(), auto_refresh=False, screen=True, vertical_overflow="crop"
    ) as live:
        while True:
            picture = await read_picture(application)
            lines = lines_of(picture, before, shutil.get_terminal_size().columns)
            live.update(rich_text.Text("\n".join(lines), no_wrap=True), refresh=True)
            before = picture
            await asyncio.sleep(interval)


async def read_picture(application: Application) -> Picture:
    """Read what the database has of all processes."""
    db = application.db
    queues, workers = await queue_stats(db), await read_workers(db)
    async with db.read() as tx:
        destinations = await application.destinations.list_all(tx)
        steps = await application.completions.count_steps(tx)
        [(last_seq,)] = await tx.fetch("SELECT COALESCE(MAX(seq), 0) FROM job")
        now = tx.now
        minute = await _completions_since(tx, now - _MINUTE)
        hour = await _completions_since(tx, now - _HOUR)
    return Picture(now, queues, workers, destinations, steps, (minute, hour), last_seq)


async def _completions_since(tx: Tx, instant: int) -> int:
    [(count,)] = await tx.fetch("SELECT COUNT(*) FROM completion WHERE recorded_at > ?", (instant,))
    return int(count)


def lines_of(picture: Picture, before: Picture | None, width: int) -> list[str]:
    """Return the lines of a picture, none longer than ``width``."""
    lines = [
        f"Homeroom at {format_instant(picture.at)}    {_worker_summary(picture.workers)}",
        f"{_job_rates(picture, before)}    completions: {picture.completions[0]} in a minute,"
        f" {picture.completions[1]} in an hour",
        *_queue_lines(picture.queues, picture.workers),
        *_worker_lines(picture),
        *_step_lines(picture),
        *_destination_lines(picture),
    ]
    return [escape_control_characters(line)[:width].rstrip() for line in lines]


def _worker_summary(workers: Sequence[Mapping[str, Any]]) -> str:
    states = [worker["state"] for worker in workers]
    if "running" not in states:
        return "NO WORKER RUNS: start homeroom worker"
    silent = len(states) - states.count("running")
    return f"workers: {states.count('running')} running, {silent} silent"


def _job_rates(picture: Picture, before: Picture | None) -> str:
    """Return the jobs added and ended a second since the picture before."""
    if before is None or picture.at <= before.at:
        return f"jobs: {picture.open_jobs} open"
    seconds = (picture.at - before.at) / SECOND
    added = max(picture.last_seq - before.last_seq, 0)
    ended = max(added - (picture.open_jobs - before.open_jobs), 0)
    return f"jobs: {added / seconds:.1f}/s added, {ended / seconds:.1f}/s ended"


def _queue_lines(
    queues: Sequence[Mapping[str, Any]], workers: Sequence[Mapping[str, Any]]
) -> list[str]:
    running = [worker for worker in workers if worker["state"] == "running"]
    rows, idle = [], []
    for queue in queues:
        counts, name = queue["counts"], queue["name"]
        slots = sum(worker["queues"].get(name, 0) for worker in running)
        if not (queue["paused"] or any(counts[state] for state in (*_OPEN_STATES, "failed"))):
            idle.append(name)
            continue
        state = "paused" if queue["paused"] else "running" if slots else "no worker"
        busy = f"{counts['active']}/{slots}"
        oldest = format_duration(queue["oldest_waiting_seconds"])
        rows.append(
            (name, state, counts["waiting"], counts["delayed"], busy, counts["failed"], oldest)
        )
    columns = ("QUEUE", "STATE", "WAITING", "DELAYED", "BUSY", "FAILED", "OLDEST")
    lines = _table(columns, rows)
    return [*lines, *_wrapped(f"idle: {', '.join(idle)}")] if idle else lines


def _worker_lines(picture: Picture) -> list[str]:
    rows = [
        (
            worker["id"],
            worker["state"],
            f"{worker['active']}/{sum(worker['queues'].values())}",
            len(worker["queues"]),
            format_duration(max(picture.at - worker["heartbeat_at"], 0) / SECOND),
        )
        for worker in picture.workers
    ]
    return _table(("WORKER", "STATE", "BUSY", "QUEUES", "HEARTBEAT"), rows)


def _step_lines(picture: Picture) -> list[str]:
    rows = []
    for step, statuses in picture.steps.by_step.items():
        waiting, failed = statuses.get("waiting", 0), statuses.get("failed", 0)
        since = picture.steps.outstanding_since.get(step)
        if waiting or failed:
            age = None if since is None else max(picture.at - since, 0) / SECOND
            rows.append((step, waiting, failed, format_duration(age)))
    return _table(("OUTSTANDING STEP", "WAITING", "FAILED", "OLDEST"), rows)


def _destination_lines(picture: Picture) -> list[str]:
    rows, on = [], []
    for each in picture.destinations:
        if not each.is_configured:
            continue
        if each.state == "on" and not each.held_jobs:
            on.append(each.name)
            continue
        error = each.disabled_reason or each.last_error or "-"
        rows.append((each.name, each.state, each.held_jobs, error.split("\n", 1)[0]))
    lines = _table(("DESTINATION", "STATE", "WAITING", "LAST ERROR"), rows)
    if on:
        lines += [*([] if lines else [""]), *_wrapped(f"destinations that are on: {', '.join(on)}")]
    return lines


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, _WIDTH, subsequent_indent="  ", break_on_hyphens=False)


def _table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> list[str]:
    """Return an empty line and a table with numbers on the right; none without rows."""
    if not rows:
        return []
    cells = [list(columns), *([str(cell) for cell in row] for row in rows)]
    widths = [max(len(line[index]) for line in cells) for index in range(len(columns))]
    right = [all(isinstance(row[index], int) for row in rows) for index in range(len(columns))]
    return [
        "",
        *(
            "  ".join(
                cell.rjust(width) if is_number else cell.ljust(width)
                for cell, width, is_number in zip(line, widths, right, strict=True)
            )
            for line in cells
        ),
    ]
