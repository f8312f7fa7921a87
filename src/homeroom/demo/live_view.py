"""Live view of a run: events per second, learners, queues, deliveries."""

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

from homeroom.demo.comparison import ComparisonLine, list_items
from homeroom.demo.environment import DemoEnvironment

REFRESH_SECONDS = 0.7
LINE_INTERVAL_SECONDS = 3.0
_COURSE_STATUSES = ("registered", "in_progress", "completed")
_JOB_STATES = ("waiting", "delayed", "active", "completed", "failed")
_PARTNERS = {"credential": "credentials", "analytics": "analytics", "hr": "HR"}


@dataclass(slots=True)
class DemoSnapshot:
    """The state at the latest refresh."""

    learners: Counter[str] = field(default_factory=Counter)
    queues: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    deliveries: Mapping[str, Counter[str]] = field(default_factory=dict)
    """By step: completions by the step's status."""
    rate: float = 0.0
    """Acknowledged events per second since the refresh before."""
    is_unreachable: bool = False


class LiveView:
    """The periodic view of a run: live on a terminal, else line by line."""

    def __init__(self, environment: DemoEnvironment, console: Console, *, live: bool) -> None:
        """Create a view that is drawn on ``console``."""
        self._environment, self._console, self._live = environment, console, live
        self._snapshot = DemoSnapshot()
        self._seen_events, self._seen_at = 0, time.monotonic()

    async def run(self) -> None:
        """Refresh until cancelled; the last view stays on the terminal."""
        if not self._live:
            while True:
                await asyncio.sleep(LINE_INTERVAL_SECONDS)
                await self.refresh()
                self._console.print(self.summary_line(), markup=False, soft_wrap=True)
        with Live(self._render(), console=self._console, auto_refresh=False) as live:
            try:
                while True:
                    await self.refresh()
                    live.update(self._render(), refresh=True)
                    await asyncio.sleep(REFRESH_SECONDS)
            except asyncio.CancelledError:
                live.update(self._render(), refresh=True)
                raise

    async def refresh(self) -> None:
        """Read the state of the run."""
        now, events = time.monotonic(), self._environment.answers.events
        snapshot = DemoSnapshot(rate=(events - self._seen_events) / max(now - self._seen_at, 0.001))
        self._seen_events, self._seen_at = events, now
        api = self._environment.api
        try:
            for course in self._environment.courses:
                async for item in list_items(api, f"/api/v1/courses/{course.id}/learners"):
                    snapshot.learners[item["status"]] += 1
            queues = (await api.get("/api/v1/queues")).raise_for_status().json()
            snapshot.queues = {queue["name"]: queue["counts"] for queue in queues}
            steps: dict[str, Counter[str]] = {name: Counter() for name in _PARTNERS}
            async for item in list_items(api, "/api/v1/completions"):
                for step in item["steps"]:
                    steps.setdefault(step["name"], Counter())[step["status"]] += 1
            snapshot.deliveries = steps
        except httpx.HTTPError:
            # The server may be restarting; the last state stays, marked as such.
            last = self._snapshot
            snapshot = DemoSnapshot(
                last.learners, last.queues, last.deliveries, snapshot.rate, is_unreachable=True
            )
        self._snapshot = snapshot

    def summary_line(self) -> str:
        """Return the state as one line of text."""
        snapshot = self._snapshot
        counts = snapshot.learners
        learners = ", ".join(
            f"{counts[name]} {name.replace('_', ' ')}" for name in _COURSE_STATUSES
        )
        jobs = {name: sum(each[name] for each in snapshot.queues.values()) for name in _JOB_STATES}
        sent = ", ".join(
            f"{title} {snapshot.deliveries.get(name, Counter())['completed']}"
            for name, title in _PARTNERS.items()
        )
        return (
            f"{self._environment.answers.events:>7,} events ({snapshot.rate:,.0f}/s)"
            f" | {learners} | "
            f"jobs: {jobs['waiting'] + jobs['delayed']} waiting, {jobs['active']} active, "
            f"{jobs['failed']} failed | delivered: {sent}"
            + (" | the server cannot be reached" if snapshot.is_unreachable else "")
        )

    def _render(self) -> RenderableType:
        snapshot, answers = self._snapshot, self._environment.answers
        total = self._environment.plan.event_count
        head = Text.assemble(
            (f"{answers.events:,}", "bold"), f" of {total:,} events acknowledged, ",
            (f"{snapshot.rate:,.0f}", "bold"), " per second; ",
            f"{answers.cuts} connections cut, {answers.count('duplicate'):,} repeats",
            ("; the server cannot be reached" if snapshot.is_unreachable else "", "bold red"),
        )  # fmt: skip
        learners = Table(title="Learners", show_header=False, box=None)
        for name in _COURSE_STATUSES:
            learners.add_row(name.replace("_", " "), f"{snapshot.learners[name]:>5}")
        queues = Table(title="Jobs", box=None)
        queues.add_column("queue")
        for state in _JOB_STATES:
            queues.add_column(state, justify="right")
        for name, counts in sorted(snapshot.queues.items()):
            queues.add_row(name, *(str(counts[state]) for state in _JOB_STATES))
        partners = Table(title="Deliveries", box=None)
        for heading in ("partner", "done", "to do", "failed"):
            partners.add_column(heading, justify="left" if heading == "partner" else "right")
        for name, title in _PARTNERS.items():
            each = snapshot.deliveries.get(name, Counter())
            to_do = each["waiting"] + each["active"]
            partners.add_row(title, str(each["completed"]), str(to_do), str(each["failed"]))
        bar = ProgressBar(total=max(total, 1), completed=answers.events, width=60)
        return Panel(
            Group(head, bar, Text(), Columns([learners, queues, partners], padding=(0, 4))),
            title="Homeroom plays a class",
        )


def comparison_table(lines: Sequence[ComparisonLine], *, verbose: bool = False) -> RenderableType:
    """Return a line for each group of comparisons, and each number that differs.

    With ``verbose``, each number with a mark.
    """
    if verbose:
        return _numbers_table(lines)
    groups: dict[str, list[ComparisonLine]] = {}
    for line in lines:
        groups.setdefault(line.group, []).append(line)
    table = _marked_table("agree", "of which")
    table.columns[1].min_width = max(map(len, groups), default=0)  # names are not cut
    for group, members in groups.items():
        off = [line for line in members if not line.ok]
        first = members[0]
        table.add_row(
            _mark(ok=not off),
            group,
            f"{len(members) - len(off)} of {len(members)}",
            f"{first.found.removesuffix(' agree')} {first.what}",
        )
    off = [line for line in lines if not line.ok]
    return Group(table, _numbers_table(off)) if off else table


def _numbers_table(lines: Sequence[ComparisonLine]) -> Table:
    table = _marked_table("sent", "read back")
    for line in lines:
        what = Text(line.what)
        if line.note:
            what.append(f"\n{line.note}", "red")
        table.add_row(_mark(ok=line.ok), what, line.expected, line.found)
    return table


def _marked_table(second: str, third: str) -> Table:
    table = Table(title="Sent, and read back", title_justify="left")
    table.add_column("")
    table.add_column("numbers")
    table.add_column(second, justify="right")
    table.add_column(third, justify="right" if third == "read back" else "left", no_wrap=True)
    return table


def _mark(*, ok: bool) -> Text:
    return Text("ok", "green") if ok else Text("OFF", "bold red")
