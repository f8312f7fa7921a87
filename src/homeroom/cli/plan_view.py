"""Show the generation of lesson plans and their lessons on a terminal."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from homeroom.cli.group import LazyModule
from homeroom.cli.terminal import escape_control_characters, format_instant, shrink_columns

if TYPE_CHECKING:
    from rich import console as rich_console
    from rich import progress as rich_progress

    from homeroom.lessonplans import curriculum, responses
    from homeroom.lessonplans.export import blocks
    from homeroom.lessonplans.plan import LessonPlan, PlannedLesson
    from homeroom.lessonplans.plan_queries import GenerationStatus
else:
    rich_console = LazyModule("rich.console")
    rich_progress = LazyModule("rich.progress")
    blocks = LazyModule("homeroom.lessonplans.export.blocks")
    curriculum = LazyModule("homeroom.lessonplans.curriculum")
    responses = LazyModule("homeroom.lessonplans.responses")

MICROS_PER_CURRENCY_UNIT = 1_000_000


class PlanProgressBar:
    """A bar on standard error, or a line for each tenth if that is no terminal."""

    def __init__(self, *, is_shown: bool) -> None:
        """Create a bar that prints nothing unless ``is_shown``."""
        self._is_shown = is_shown
        self._bar: rich_progress.Progress | None = None
        self._task: rich_progress.TaskID | None = None
        self._last_tenth = -1

    def __enter__(self) -> Self:
        """Draw the bar on a terminal."""
        if self._is_shown and sys.stderr.isatty():
            self._bar = rich_progress.Progress(
                rich_progress.TextColumn("{task.description}"),
                rich_progress.BarColumn(),
                rich_progress.TextColumn("{task.percentage:>3.0f} %  {task.fields[left]}"),
                console=rich_console.Console(stderr=True),
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
        """Remove the bar."""
        if self._bar is not None:
            self._bar.stop()

    def update(self, status: GenerationStatus) -> None:
        """Show the progress of a plan."""
        if not self._is_shown:
            return
        total = status.total_modules
        text = f"Module {min(status.modules_generated + 1, total)} of {total}"
        percent = status.progress.percent
        if self._bar is not None and self._task is not None:
            left = _time_left(status.progress.seconds_left)
            self._bar.update(self._task, completed=percent, description=text, left=left)
        elif int(percent) // 10 > self._last_tenth and status.status == "in_progress":
            self._last_tenth = int(percent) // 10
            sys.stderr.write(f"{text}, {percent:.0f} %\n")
            sys.stderr.flush()


def _time_left(seconds: int | None) -> str:
    if seconds is None:
        return "time left: not known yet"
    return f"about {seconds // 60} min {seconds % 60} s left" if seconds else ""


def plan_status_lines(status: GenerationStatus) -> list[str]:
    """Return the state of a plan's generation as text."""
    total = status.total_modules
    lines = [
        f"{status.plan.title} ({status.plan.id})",
        f"Status: {status.status}, {status.progress.percent:g} %",
        f"Modules: {status.modules_generated} of {total}; lessons: {status.lessons};"
        f" contact hours: {curriculum.contact_hours(status.minutes)}",
    ]
    if status.status == "in_progress":
        left = _time_left(status.progress.seconds_left)
        lines.append(
            f"{left[:1].upper()}{left[1:]}; last heartbeat {format_instant(status.heartbeat_at)}"
        )
    if status.open_places:
        lines.append(f"Outline: {status.open_places} places are open; list them with:")
        lines.append(f"  homeroom plans checklist {status.plan.id}")
    if status.lessons_with_gaps:
        lines.append(f"Lessons with missing parts: {status.lessons_with_gaps}")
    spent = status.spent
    if spent.requests:
        cost = (
            "unknown"
            if spent.cost is None
            else f"{spent.cost / MICROS_PER_CURRENCY_UNIT:.4f} {spent.currency}"
        )
        more = "" if spent.cost_complete else " (of some calls the cost is not known)"
        lines.append(
            f"Model: {spent.requests} calls, {spent.input_tokens} tokens in,"
            f" {spent.output_tokens} out, cost {cost}{more}"
        )
    for each in status.modules:
        if each.module.error:
            lines.append(f"Module {each.module.idx + 1} {each.module.state}: {each.module.error}")
    return lines


def plan_status_json(status: GenerationStatus) -> dict[str, Any]:
    """Return the state of a plan's generation as the HTTP API does."""
    return responses.generation_status_view(status).model_dump(mode="json", by_alias=True)


def lesson_table(plan: LessonPlan) -> tuple[list[str], list[list[object]]]:
    """Return the lessons of a plan as a table."""
    columns = ["LESSON", "WEEK", "MIN", "TITLE", "BY", "OPEN", "GAPS"]
    rows: list[list[object]] = [
        [
            lesson.slot.number,
            lesson.slot.week,
            lesson.slot.minutes,
            lesson.title,
            "a person" if lesson.edited else lesson.generator or "-",
            len(lesson.open_places),
            ", ".join(gap.code for gap in lesson.gaps) or "-",
        ]
        for lesson in plan.lessons
    ]
    return columns, shrink_columns(columns, rows, ["BY", "TITLE", "GAPS"])


def lesson_lines(plan: LessonPlan, lesson: PlannedLesson) -> list[str]:
    """Return one lesson as text."""
    lines: list[str] = []
    for block in blocks.lesson_blocks(plan, lesson):
        if isinstance(block, blocks.Heading):
            lines += ["", block.text]
        elif isinstance(block, blocks.Bullets):
            lines += [f"  - {item}" for item in block.items]
        elif isinstance(block, blocks.Grid):
            for row in block.rows:
                cells = (f"{name}: {cell}" for name, cell in zip(block.columns, row, strict=True))
                parts = [part for cell in cells for part in cell.split("\n")]
                lines.append("  " + "\n    ".join(map(escape_control_characters, parts)))
        else:
            lines.append(block.text)
    return lines[1:]
