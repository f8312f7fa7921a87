"""``homeroom jobs watch``: queues and running jobs, anew every moment."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from dataclasses import dataclass
from typing import Annotated, Any

import typer
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from homeroom.cli.house import in_house
from homeroom.cli.job_view import LIST_COLUMNS, STATS_COLUMNS, job_row, stats, stats_rows
from homeroom.cli.output import moment, plain, table
from homeroom.db.database import Database
from homeroom.jobs import store
from homeroom.jobs.job import Job, JobState
from homeroom.wiring import House

_SHOWN = 8


@dataclass(frozen=True, slots=True)
class Picture:
    """What is seen at one moment (microseconds UTC)."""

    at: int
    queues: list[dict[str, Any]]
    active: list[Job]
    failed: list[Job]


def watch(
    interval: Annotated[
        float, typer.Option(min=0.1, max=3_600, help="Seconds from one look to the next.")
    ] = 1.0,
    once: Annotated[bool, typer.Option("--once", help="Look once, then end.")] = False,
) -> None:
    """Watch queues, running jobs and failed ones until Ctrl-C.

    On a terminal the picture changes in place; elsewhere each look is printed below the last.
    """
    terminal = sys.stdout.isatty()

    async def work(house: House) -> None:
        if once or not terminal:
            await _print(house.db, interval, once)
        else:
            await _live(house.db, interval)

    with contextlib.suppress(KeyboardInterrupt, BrokenPipeError):
        in_house(work)


async def look(db: Database) -> Picture:
    """Return how things stand."""
    queues = await stats(db)
    async with db.read() as tx:
        active = await store.search(tx, store.Filter(state=JobState.ACTIVE), limit=_SHOWN)
        failed = await store.search(tx, store.Filter(state=JobState.FAILED), limit=_SHOWN)
        now = tx.now
    return Picture(now, queues, [job for _, job in active], [job for _, job in failed])


async def _live(db: Database, interval: float) -> None:
    with Live(_draw(await look(db)), console=Console(), auto_refresh=False, screen=False) as live:
        while True:
            await asyncio.sleep(interval)
            live.update(_draw(await look(db)), refresh=True)


async def _print(db: Database, interval: float, once: bool) -> None:
    while True:
        sys.stdout.write(_written(await look(db)))
        sys.stdout.flush()
        if once:
            return
        await asyncio.sleep(interval)


def _draw(picture: Picture) -> RenderableType:
    parts: list[RenderableType] = [Text(f"{moment(picture.at)}   Ctrl-C ends this")]
    parts.append(table(STATS_COLUMNS, stats_rows(picture.queues)))
    for title, jobs in (("Running", picture.active), ("Failed, newest first", picture.failed)):
        if jobs:
            parts += [
                Text(title, style="bold"),
                table(LIST_COLUMNS, [job_row(job) for job in jobs]),
            ]
    return Group(*parts)


def _written(picture: Picture) -> str:
    parts = [f"{moment(picture.at)}\n", plain(STATS_COLUMNS, stats_rows(picture.queues))]
    for title, jobs in (("Running", picture.active), ("Failed, newest first", picture.failed)):
        if jobs:
            parts.append(f"{title}\n" + plain(LIST_COLUMNS, [job_row(job) for job in jobs]))
    return "".join(parts) + "\n"
