"""A printed plan: title page, contents, scheme of work, lessons (pure).

DOCX and PDF render the same document, so both have the same pages in the same order.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from babel import Locale, UnknownLocaleError
from babel.dates import format_date, format_time

from homeroom.lessonplans.curriculum import CurriculumModule, one_line
from homeroom.lessonplans.export.blocks import (
    Block,
    Grid,
    Heading,
    WritingSpace,
    front_matter_blocks,
    lesson_blocks,
    module_blocks,
)
from homeroom.lessonplans.export.print_style import PaperSize, is_right_to_left, paper_size
from homeroom.lessonplans.plan import LessonMeeting, LessonPlan, PlannedLesson, schedule_meetings
from homeroom.lessonplans.wording import Wording, load_wording, wording_language

NOTE_LINES = 6
"""Ruled lines for notes at the end of each lesson."""
MAX_ROW_LINES = 30
"""A table row that needs more lines may be split across pages; it might not fit on one."""
_PORTRAIT_CHARACTERS = 105
"""Characters of table text in a line across a portrait page, on average."""
_SCHEME_WIDTHS = (3, 6, 3, 12, 13, 10, 8)


@dataclass(frozen=True, slots=True)
class PrintedLesson:
    """The pages of one lesson; ``title`` is its heading."""

    title: str
    blocks: Sequence[Block | WritingSpace]


@dataclass(frozen=True, slots=True)
class PrintedModule:
    """The pages of a module: its introduction, then its lessons."""

    title: str
    blocks: Sequence[Block]
    lessons: Sequence[PrintedLesson]


@dataclass(frozen=True, slots=True)
class SchemeOfWork:
    """A table of all lessons, in groups of a title and its rows."""

    title: str
    notes: Sequence[str]
    """Lines above the table: the days without lessons."""
    columns: Sequence[str]
    widths: Sequence[int]
    groups: Sequence[tuple[str, Sequence[Sequence[str]]]]


@dataclass(frozen=True, slots=True)
class PrintedPlan:
    """A plan as it is printed."""

    title: str
    locale: str
    paper: PaperSize
    right_to_left: bool
    front: Sequence[Block]
    contents_title: str
    page_label: str
    """With ``{page}`` and ``{pages}``."""
    scheme: SchemeOfWork
    modules: Sequence[PrintedModule]


def print_plan(plan: LessonPlan) -> PrintedPlan:
    """Return a plan as it is printed."""
    curriculum = plan.curriculum
    wording = load_wording(wording_language(curriculum))
    return PrintedPlan(
        title=one_line(curriculum.title),
        locale=curriculum.locale,
        paper=paper_size(curriculum),
        right_to_left=is_right_to_left(curriculum),
        front=[block for block in front_matter_blocks(plan) if not isinstance(block, Heading)],
        contents_title=wording.labels["contents"],
        page_label=wording.labels["page"],
        scheme=_scheme_of_work(plan, wording),
        modules=[
            _print_module(plan, index, module) for index, module in enumerate(curriculum.modules)
        ],
    )


def is_splittable(grid: Grid, row: Sequence[str]) -> bool:
    """Return whether a row of a portrait table is too tall to be kept on one page."""
    total = sum(grid.widths)
    lines = 0
    for text, width in zip(row, grid.widths, strict=True):
        in_line = max(1, _PORTRAIT_CHARACTERS * width // total)
        lines = max(lines, sum(len(part) // in_line + 1 for part in text.split("\n")))
    return lines > MAX_ROW_LINES


def _print_module(plan: LessonPlan, index: int, module: CurriculumModule) -> PrintedModule:
    heading, *blocks = module_blocks(plan, index, module)
    assert isinstance(heading, Heading)
    return PrintedModule(
        heading.text,
        blocks,
        [print_lesson(plan, lesson) for lesson in plan.lessons_of(index)],
    )


def print_lesson(plan: LessonPlan, lesson: PlannedLesson) -> PrintedLesson:
    """Return one lesson as it is printed."""
    wording = load_wording(wording_language(plan.curriculum))
    heading, *blocks = lesson_blocks(plan, lesson)
    assert isinstance(heading, Heading)
    return PrintedLesson(heading.text, [*blocks, *_writing_spaces(lesson, wording)])


def _writing_spaces(lesson: PlannedLesson, wording: Wording) -> Iterator[WritingSpace]:
    prompts = [one_line(place.asks) for place in lesson.open_places]
    if prompts:
        yield WritingSpace(wording.labels["to_add"], prompts, 0)
    yield WritingSpace(wording.labels["lesson_notes"], (), NOTE_LINES)


def _scheme_of_work(plan: LessonPlan, wording: Wording) -> SchemeOfWork:
    labels = wording.labels
    locale = _babel_locale(plan.curriculum.locale)
    meetings = schedule_meetings(plan)
    names = ("lesson", "week", "minutes", "title", "outcome", "assessment", "remarks")
    groups = []
    for index, module in enumerate(plan.curriculum.modules):
        title = labels["module"].format(number=index + 1, title=one_line(module.title))
        rows = [
            _scheme_row(lesson, meetings[lesson.slot.index] if meetings else None, locale)
            for lesson in plan.lessons_of(index)
        ]
        groups.append((title, rows))
    return SchemeOfWork(
        title=labels["scheme_of_work"],
        notes=[
            labels["no_lessons"].format(
                title=one_line(each.title or labels["break"]),
                first=format_date(each.first_day, "medium", locale=locale),
                last=format_date(each.last_day, "medium", locale=locale),
            )
            for each in plan.curriculum.preferences.breaks
        ]
        if meetings
        else [],
        columns=[labels[name] for name in names],
        widths=_SCHEME_WIDTHS,
        groups=groups,
    )


def _scheme_row(
    lesson: PlannedLesson, meeting: LessonMeeting | None, locale: Locale
) -> Sequence[str]:
    slot, body = lesson.slot, lesson.body
    when = str(slot.week)
    if meeting is not None:
        day = format_date(meeting.begins.date(), "EEE, d MMM y", locale=locale)
        when += f"\n{day}\n{format_time(meeting.begins.time(), 'short', locale=locale)}"
    methods = [] if body is None else [one_line(each.method) for each in body.assessments]
    return (
        slot.number,
        when,
        str(slot.minutes),
        one_line(lesson.title),
        "; ".join(one_line(outcome.text) for outcome in slot.outcomes),
        "; ".join(dict.fromkeys(methods)),
        "",  # space to write
    )


def _babel_locale(tag: str) -> Locale:
    """Return the locale of dates; of an unknown language English."""
    try:
        return Locale.parse(tag, sep="-")
    except (UnknownLocaleError, ValueError):
        try:
            return Locale.parse(tag.split("-")[0])
        except (UnknownLocaleError, ValueError):
            return Locale.parse("en")
