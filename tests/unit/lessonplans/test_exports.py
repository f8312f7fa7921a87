"""Exports open in other programs and contain the plan, whatever characters its text has."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from datetime import datetime
from typing import Any

import pytest
from docx import Document
from icalendar import Calendar
from pypdf import PdfReader
from tests.support.lesson_plan import HOSTILE_TEXTS, PLAIN, hostile, plan_of

from homeroom.errors import Conflict, HomeroomError
from homeroom.lessonplans.export.formats import EXPORT_FORMATS, ExportFormat, export_file
from homeroom.lessonplans.export.render_process import render
from homeroom.lessonplans.plan import LessonPlan, schedule_meetings


def words(text: str) -> str:
    """Return text without white space: formats break lines differently."""
    return "".join(text.split())


def docx_text(content: bytes) -> str:
    word = Document(io.BytesIO(content))
    cells = [cell.text for table in word.tables for row in table.rows for cell in row.cells]
    return "\n".join([paragraph.text for paragraph in word.paragraphs] + cells)


def content_of(plan: LessonPlan, form: ExportFormat) -> bytes:
    """Render a file in this process, a second faster than in a child process."""
    info = EXPORT_FORMATS[form]
    return render(form, plan) if info.render is None else info.render(plan)


def pdf_text(content: bytes) -> str:
    return "\n".join(page.extract_text() for page in PdfReader(io.BytesIO(content)).pages)


@pytest.mark.parametrize("form", ["docx", "pdf"])
def test_a_document_contains_the_whole_plan(form: ExportFormat) -> None:
    plan = plan_of(PLAIN, gap=True)
    content = content_of(plan, form)
    text = words(docx_text(content) if form == "docx" else pdf_text(content))
    assert words("Bread for beginners") in text
    assert words("2 modules, 5 lessons, 4.5 contact hours.") in text
    assert words("Generator: rule-based.") in text
    assert words("Missing: the model refused to write this lesson.") in text
    for lesson in plan.lessons:
        assert words(f"{lesson.slot.number} {lesson.title}") in text
        assert lesson.body is not None
        for activity in lesson.body.activities:
            assert words(activity.learners_do) in text


@pytest.mark.parametrize("form", ["docx", "pdf"])
def test_text_that_looks_like_markup_is_shown_as_it_is(form: ExportFormat) -> None:
    content = content_of(plan_of(hostile()), form)
    text = words(docx_text(content) if form == "docx" else pdf_text(content))
    for sample in HOSTILE_TEXTS:
        # the PDF's fonts set no ligature in these texts
        assert words(sample) in text, sample


@pytest.mark.parametrize("form", list(EXPORT_FORMATS))
@pytest.mark.parametrize("body", [PLAIN, hostile()], ids=["plain", "hostile"])
def test_every_format_renders_a_plan_that_is_not_generated_yet(
    form: ExportFormat, body: dict[str, Any]
) -> None:
    plan = plan_of(body)
    empty = replace(
        plan,
        status="pending",
        lessons=tuple(replace(one, body=None, generator=None) for one in plan.lessons),
    )
    assert content_of(empty, form)


def test_markdown_escapes_what_would_be_markup() -> None:
    markdown = content_of(plan_of(hostile()), "md").decode()
    assert r"\<script>alert(1)\</script>" in markdown
    assert r"[link\](http://evil.example)" in markdown
    headings = [line for line in markdown.splitlines() if line.startswith("#")]
    assert all(line.split(" ")[0] in {"#", "##", "###", "####"} for line in headings)
    assert not [line for line in markdown.splitlines() if line.startswith("#import")]
    tables = [line for line in markdown.splitlines() if line.startswith("| ")]
    assert {line.count(" | ") for line in tables if line.startswith("| Outcome")} == {2}


@pytest.mark.parametrize("form", ["md", "checklist"])
def test_markdown_of_usual_texts_has_no_backslash(form: ExportFormat) -> None:
    assert "\\" not in content_of(plan_of(PLAIN, gap=True), form).decode()


def rows_of(plan: LessonPlan) -> list[dict[str, str]]:
    content = content_of(plan, "csv").decode("utf-8-sig")
    return list(csv.DictReader(io.StringIO(content)))


def test_the_scheme_of_work_has_a_line_a_lesson() -> None:
    rows = rows_of(plan_of(PLAIN))
    assert [row["lesson"] for row in rows] == ["L1.1", "L1.2", "L1.3", "L2.1", "L2.2"]
    assert sum(int(row["minutes"]) for row in rows) == 270
    assert rows[0]["date"] == "2027-03-24"
    assert rows[1]["date"] == "2027-03-28"
    assert {row["generator"] for row in rows} == {"rule-based"}


def test_a_spreadsheet_does_not_take_lesson_3_10_for_the_number_3_1() -> None:
    body = {**PLAIN, "preferences": {"lessonMinutes": 30}}
    body["modules"] = [{**PLAIN["modules"][0], "contactHours": 6}]
    numbers = [row["lesson"] for row in rows_of(plan_of(body))]
    assert "L1.10" in numbers
    assert not [each for each in numbers if each.replace(".", "").isdecimal()]


def test_no_cell_of_a_spreadsheet_is_a_formula() -> None:
    rows = rows_of(plan_of(hostile()))
    cells = [cell for row in rows for cell in row.values()]
    assert cells
    assert not [cell for cell in cells if cell.startswith(("=", "+", "-", "@", "\t", "\r"))]
    assert any(cell.startswith("'=HYPERLINK") for cell in cells)


def test_a_calendar_is_read_back_with_an_event_a_lesson_in_its_time_zone() -> None:
    plan = plan_of(PLAIN)
    calendar = Calendar.from_ical(content_of(plan, "ics"))
    events = list(calendar.walk("VEVENT"))
    assert len(events) == len(plan.lessons)
    assert len({str(event["uid"]) for event in events}) == len(plan.lessons)
    begins: list[datetime] = [event["dtstart"].dt for event in events]
    assert [moment.strftime("%a %d %b %H:%M %z") for moment in begins] == [
        "Wed 24 Mar 09:30 +0100",
        "Sun 28 Mar 09:30 +0200",  # the clocks were changed that night
        "Wed 31 Mar 09:30 +0200",
        "Sun 04 Apr 09:30 +0200",
        "Wed 07 Apr 09:30 +0200",
    ]
    minutes = [(event["dtend"].dt - event["dtstart"].dt).seconds // 60 for event in events]
    assert minutes == [60, 60, 60, 60, 30]
    assert len(list(calendar.walk("VTIMEZONE"))) == 1
    assert Calendar.from_ical(content_of(plan_of(hostile()), "ics"))


def test_a_plan_without_a_first_day_has_no_dates_and_no_calendar() -> None:
    plan = plan_of({**PLAIN, "preferences": {"lessonsPerDay": 2, "lessonMinutes": 60}})
    assert schedule_meetings(plan) == []
    assert {(row["date"], row["starts"]) for row in rows_of(plan)} == {("", "")}
    with pytest.raises(Conflict, match="has no first day"):
        export_file(plan, "ics")


def test_no_lesson_is_on_a_day_of_a_break() -> None:
    breaks = [
        {"title": "Easter", "from": "2027-03-26", "until": "2027-04-05"},
        {"from": "2027-04-11"},  # one day
    ]
    plan = plan_of({**PLAIN, "preferences": {**PLAIN["preferences"], "breaks": breaks}})
    days = [meeting.begins.strftime("%m-%d") for meeting in schedule_meetings(plan)]
    assert days == ["03-24", "04-07", "04-14", "04-18", "04-21"]


def test_a_day_takes_no_lesson_that_would_end_after_midnight() -> None:
    wishes = {"lessonsPerDay": 12, "lessonMinutes": 480, "startTime": "08:00", "weekdays": ["MO"]}
    wishes["startsOn"] = "2026-11-23"
    body = {**PLAIN, "preferences": wishes}
    body["modules"] = [{**PLAIN["modules"][0], "contactHours": 24}]
    meetings = schedule_meetings(plan_of(body))
    assert [meeting.begins.strftime("%d %H:%M") for meeting in meetings] == [
        "23 08:00",
        "30 08:00",
        "07 08:00",
    ]


def test_json_holds_the_same_as_the_plan_and_is_stable() -> None:
    first, second = export_file(plan_of(PLAIN), "json"), export_file(plan_of(PLAIN), "json")
    assert first == second
    plan = json.loads(first.content)
    assert plan["totals"] == {
        "modules": 2,
        "lessons": 5,
        "contactMinutes": 270,
        "contactHours": 4.5,
        "openPlaces": len(plan["openPlaces"]),
    }


def test_a_file_is_named_after_the_plan_and_nothing_else() -> None:
    assert export_file(plan_of(PLAIN), "docx").name == "bread-for-beginners.docx"
    assert export_file(plan_of(hostile()), "csv").name == "hyperlink-http-evil-example-a1.csv"
    assert export_file(plan_of({**PLAIN, "title": "学び: 1/2"}), "ics").name == "学び-1-2.ics"
    assert export_file(plan_of({**PLAIN, "title": "…"}), "ics").name == "lesson-plans.ics"


@pytest.mark.parametrize("form", list(EXPORT_FORMATS))
def test_a_child_process_renders_the_same_file(form: ExportFormat) -> None:
    plan = plan_of(PLAIN)
    file = export_file(plan, form)
    if form in {"docx", "pdf"}:  # these contain their time of creation
        read_text = docx_text if form == "docx" else pdf_text
        assert read_text(file.content) == read_text(content_of(plan, form))
    else:
        assert file.content == content_of(plan, form)


def test_a_failed_rendering_is_an_error_that_names_the_format() -> None:
    plan = replace(plan_of(PLAIN), lessons=None)  # type: ignore[arg-type]  # an invalid plan
    with pytest.raises(HomeroomError, match="The docx file could not be rendered"):
        export_file(plan, "docx")
