"""Show lesson plans on a terminal: a bar while they are generated, their lessons afterwards."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn

from homeroom.cli.output import moment, visible
from homeroom.lessonplans import answer
from homeroom.lessonplans.curriculum import hours
from homeroom.lessonplans.export.block import Bullets, Grid, Heading, lesson_blocks
from homeroom.lessonplans.plan import Lesson, Plan
from homeroom.lessonplans.read import Status

MICRO = 1_000_000


class Bar:
    """A bar on standard error, or, where that is no terminal, a line at each tenth."""

    def __init__(self, *, shown: bool) -> None:
        """Take whether anything is shown at all."""
        self._shown = shown
        self._bar: Progress | None = None
        self._task: TaskID | None = None
        self._said = -1

    def __enter__(self) -> Self:
        """Begin."""
        if self._shown and sys.stderr.isatty():
            self._bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                TextColumn("{task.percentage:>3.0f} %  {task.fields[left]}"),
                console=Console(stderr=True),
                transient=True,
            )
            self._bar.start()
            self._task = self._bar.add_task("Generating", total=100, left="")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """End; the bar goes away."""
        if self._bar is not None:
            self._bar.stop()

    def update(self, found: Status) -> None:
        """Show how far a plan is."""
        if not self._shown:
            return
        total = found.total_modules
        text = f"Module {min(found.modules_generated + 1, total)} of {total}"
        percent = found.progress.percent
        if self._bar is not None and self._task is not None:
            left = _left(found.progress.seconds_left)
            self._bar.update(self._task, completed=percent, description=text, left=left)
        elif int(percent) // 10 > self._said and found.status == "in_progress":
            self._said = int(percent) // 10
            sys.stderr.write(f"{text}, {percent:.0f} %\n")
            sys.stderr.flush()


def _left(seconds: int | None) -> str:
    if seconds is None:
        return "time left: not known yet"
    return f"about {seconds // 60} min {seconds % 60} s left" if seconds else ""


def status_lines(found: Status) -> list[str]:
    """Return how a plan stands, for people."""
    total = found.total_modules
    lines = [
        f"{found.plan.title} ({found.plan.id})",
        f"Status: {found.status}, {found.progress.percent:g} %",
        f"Modules: {found.modules_generated} of {total}; lessons: {found.lessons};"
        f" contact hours: {hours(found.minutes)}",
    ]
    if found.status == "in_progress":
        left = _left(found.progress.seconds_left)
        lines.append(
            f"{left[:1].upper()}{left[1:]}; last sign of life {moment(found.heartbeat_at)}"
        )
    if found.lessons_with_gaps:
        lines.append(f"Lessons in which something is missing: {found.lessons_with_gaps}")
    spent = found.spent
    if spent.requests:
        cost = "unknown" if spent.cost is None else f"{spent.cost / MICRO:.4f} {spent.currency}"
        more = "" if spent.cost_complete else " (of some calls the cost is not known)"
        lines.append(
            f"Model: {spent.requests} calls, {spent.input_tokens} tokens in,"
            f" {spent.output_tokens} out, cost {cost}{more}"
        )
    for each in found.modules:
        if each.module.error:
            lines.append(f"Module {each.module.idx + 1} {each.module.state}: {each.module.error}")
    return lines


def status_json(found: Status) -> dict[str, Any]:
    """Return how a plan stands, for programs: what the HTTP API answers."""
    return answer.status(found).model_dump(mode="json", by_alias=True)


def summary_rows(plan: Plan) -> tuple[list[str], list[list[object]]]:
    """Return the lessons of a plan as a table."""
    columns = ["LESSON", "WEEK", "MIN", "TITLE", "BY", "MISSING"]
    rows: list[list[object]] = [
        [
            lesson.slot.number,
            lesson.slot.week,
            lesson.slot.minutes,
            lesson.title,
            "a person" if lesson.edited else lesson.generator or "-",
            ", ".join(gap.code for gap in lesson.gaps) or "-",
        ]
        for lesson in plan.lessons
    ]
    return columns, rows


def lesson_lines(plan: Plan, lesson: Lesson) -> list[str]:
    """Return one lesson as text."""
    lines: list[str] = []
    for block in lesson_blocks(plan, lesson):
        if isinstance(block, Heading):
            lines += ["", block.text]
        elif isinstance(block, Bullets):
            lines += [f"  - {item}" for item in block.items]
        elif isinstance(block, Grid):
            for row in block.rows:
                cells = (f"{name}: {cell}" for name, cell in zip(block.columns, row, strict=True))
                lines.append("  " + "\n    ".join(visible(cell) for cell in cells))
        else:
            lines.append(block.text)
    return lines[1:]
