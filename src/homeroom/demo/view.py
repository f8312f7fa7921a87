"""Show what goes on while the class plays: events a second, learners, queues, deliveries."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import httpx
from rich.columns import Columns
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from homeroom.demo.check import Line
from homeroom.demo.found import items
from homeroom.demo.school import School

LIVE_SECONDS = 0.7
PLAIN_SECONDS = 3.0
_STATUSES = ("registered", "in_progress", "completed")
_STATES = ("waiting", "delayed", "active", "completed", "failed")
_PARTNERS = {"credential": "Credly", "analytics": "analytics", "hr": "HR"}


@dataclass(slots=True)
class Sight:
    """What was seen last."""

    learners: Counter[str] = field(default_factory=Counter)
    queues: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    deliveries: Mapping[str, Counter[str]] = field(default_factory=dict)
    """By step: completions by the step's status."""
    rate: float = 0.0
    """Events a second that were acknowledged since the look before."""
    away: bool = False


class View:
    """Look at a school again and again, and show it: live on a terminal, else by a line."""

    def __init__(self, school: School, console: Console, *, live: bool) -> None:
        """Take what is looked at, and where it is shown."""
        self._school, self._console, self._live = school, console, live
        self._sight = Sight()
        self._seen_events, self._seen_at = 0, time.monotonic()

    async def run(self) -> None:
        """Show until cancelled; the last look stays on the terminal."""
        if not self._live:
            while True:
                await asyncio.sleep(PLAIN_SECONDS)
                await self.look()
                self._console.print(self.line(), markup=False, soft_wrap=True)
        with Live(self._render(), console=self._console, auto_refresh=False) as live:
            try:
                while True:
                    await self.look()
                    live.update(self._render(), refresh=True)
                    await asyncio.sleep(LIVE_SECONDS)
            except asyncio.CancelledError:
                live.update(self._render(), refresh=True)
                raise

    async def look(self) -> None:
        """Read what is going on."""
        now, events = time.monotonic(), self._school.answers.events
        sight = Sight(rate=(events - self._seen_events) / max(now - self._seen_at, 0.001))
        self._seen_events, self._seen_at = events, now
        api = self._school.api
        try:
            for course in self._school.courses:
                async for item in items(api, f"/api/v1/courses/{course.id}/learners"):
                    sight.learners[item["status"]] += 1
            queues = (await api.get("/api/v1/queues")).raise_for_status().json()
            sight.queues = {queue["name"]: queue["counts"] for queue in queues}
            steps: dict[str, Counter[str]] = {name: Counter() for name in _PARTNERS}
            async for item in items(api, "/api/v1/completions"):
                for step in item["steps"]:
                    steps.setdefault(step["name"], Counter())[step["status"]] += 1
            sight.deliveries = steps
        except httpx.HTTPError:
            # The server may be starting again; what was seen last stays, marked as such.
            last = self._sight
            sight = Sight(last.learners, last.queues, last.deliveries, sight.rate, away=True)
        self._sight = sight

    def line(self) -> str:
        """Return the sight as one line of text."""
        sight = self._sight
        learners = ", ".join(
            f"{sight.learners[name]} {name.replace('_', ' ')}" for name in _STATUSES
        )
        jobs = {name: sum(each[name] for each in sight.queues.values()) for name in _STATES}
        sent = ", ".join(
            f"{title} {sight.deliveries.get(name, Counter())['completed']}"
            for name, title in _PARTNERS.items()
        )
        return (
            f"{self._school.answers.events:>7,} events ({sight.rate:,.0f}/s) | {learners} | "
            f"jobs: {jobs['waiting'] + jobs['delayed']} waiting, {jobs['active']} active, "
            f"{jobs['failed']} failed | delivered: {sent}"
            + (" | the server is away" if sight.away else "")
        )

    def _render(self) -> RenderableType:
        sight, answers = self._sight, self._school.answers
        total = self._school.plan.events
        head = Text.assemble(
            (f"{answers.events:,}", "bold"), f" of {total:,} events acknowledged, ",
            (f"{sight.rate:,.0f}", "bold"), " a second; ",
            f"{answers.cuts} connections cut, {answers.count('duplicate'):,} repeats",
            ("; the server is away" if sight.away else "", "bold red"),
        )  # fmt: skip
        learners = Table(title="Learners", show_header=False, box=None)
        for name in _STATUSES:
            learners.add_row(name.replace("_", " "), f"{sight.learners[name]:>5}")
        queues = Table(title="Jobs", box=None)
        queues.add_column("queue")
        for state in _STATES:
            queues.add_column(state, justify="right")
        for name, counts in sorted(sight.queues.items()):
            queues.add_row(name, *(str(counts[state]) for state in _STATES))
        partners = Table(title="Deliveries", box=None)
        for heading in ("partner", "done", "to do", "failed"):
            partners.add_column(heading, justify="left" if heading == "partner" else "right")
        for name, title in _PARTNERS.items():
            each = sight.deliveries.get(name, Counter())
            to_do = each["waiting"] + each["active"]
            partners.add_row(title, str(each["completed"]), str(to_do), str(each["failed"]))
        bar = ProgressBar(total=max(total, 1), completed=answers.events, width=60)
        return Panel(
            Group(head, bar, Text(), Columns([learners, queues, partners], padding=(0, 4))),
            title="Homeroom plays a class",
        )


def summary(lines: Sequence[Line]) -> Table:
    """Return the comparisons as a table, a mark for each."""
    table = Table(title="What was sent, and what was read back", title_justify="left")
    table.add_column("")
    table.add_column("number")
    table.add_column("sent", justify="right")
    table.add_column("read back", justify="right")
    for line in lines:
        mark = Text("ok", "green") if line.ok else Text("OFF", "bold red")
        what = Text(line.what)
        if line.note:
            what.append(f"\n{line.note}", "red")
        table.add_row(mark, what, line.expected, line.found)
    return table
