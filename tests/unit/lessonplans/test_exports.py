"""Exports are opened by other programs and say what the plan says, whatever its text holds."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from datetime import date, datetime
from typing import Any

import pytest
from docx import Document
from icalendar import Calendar
from pypdf import PdfReader
from tests.unit.lessonplans.plans import HOSTILE_TEXTS, PLAIN, hostile, plan_of

from homeroom.errors import HomeroomError
from homeroom.lessonplans.export.format import FORMATS, Format, export
from homeroom.lessonplans.export.press import MAKERS
from homeroom.lessonplans.export.timetable import timetable
from homeroom.lessonplans.plan import Plan


def words(text: str) -> str:
    """Return text without any space: formats break lines where they like."""
    return "".join(text.split())


def docx_text(content: bytes) -> str:
    word = Document(io.BytesIO(content))
    cells = [cell.text for table in word.tables for row in table.rows for cell in row.cells]
    return "\n".join([paragraph.text for paragraph in word.paragraphs] + cells)


def content_of(plan: Plan, form: Format) -> bytes:
    """Make a file in this process, which is a second faster than in one of its own."""
    make = FORMATS[form].make or MAKERS[form]
    return make(plan)


def pdf_text(content: bytes) -> str:
    return "\n".join(page.extract_text() for page in PdfReader(io.BytesIO(content)).pages)


@pytest.mark.parametrize("form", ["docx", "pdf"])
def test_a_document_is_read_back_with_all_that_the_plan_says(form: Format) -> None:
    plan = plan_of(PLAIN, gap=True)
    content = content_of(plan, form)
    found = words(docx_text(content) if form == "docx" else pdf_text(content))
    assert words("Bread for beginners") in found
    assert words("2 modules, 5 lessons, 4.5 contact hours.") in found
    assert words("Generator: rule-based.") in found
    assert words("Missing: the model refused to write this lesson.") in found
    for lesson in plan.lessons:
        assert words(f"{lesson.slot.number} {lesson.title}") in found
        assert lesson.body is not None
        for activity in lesson.body.activities:
            assert words(activity.learners_do) in found


@pytest.mark.parametrize("form", ["docx", "pdf"])
def test_text_that_looks_like_markup_is_shown_as_it_is(form: Format) -> None:
    content = content_of(plan_of(hostile()), form)
    found = words(docx_text(content) if form == "docx" else pdf_text(content))
    for text in HOSTILE_TEXTS:
        # a PDF sets typographic ligatures nowhere in these, and keeps every sign
        assert words(text) in found, text


@pytest.mark.parametrize("form", list(FORMATS))
@pytest.mark.parametrize("body", [PLAIN, hostile()], ids=["plain", "hostile"])
def test_every_format_is_made_of_a_plan_that_is_not_written_yet(
    form: Format, body: dict[str, Any]
) -> None:
    plan = plan_of(body)
    empty = replace(
        plan,
        status="pending",
        lessons=tuple(replace(one, body=None, generator=None) for one in plan.lessons),
    )
    assert content_of(empty, form)


def test_markdown_escapes_what_would_be_markup() -> None:
    found = content_of(plan_of(hostile()), "md").decode()
    assert "<script>" not in found
    assert r"\<script\>alert(1)\</script\>" in found
    assert r"\[link\](http://evil.example)" in found
    headings = [line for line in found.splitlines() if line.startswith("#")]
    assert all(line.split(" ")[0] in {"#", "##", "###", "####"} for line in headings)
    assert not [line for line in found.splitlines() if line.startswith("#import")]
    tables = [line for line in found.splitlines() if line.startswith("| ")]
    assert {line.count(" | ") for line in tables if line.startswith("| Outcome")} == {1}


def rows_of(plan: Plan) -> list[dict[str, str]]:
    content = content_of(plan, "csv").decode("utf-8-sig")
    return list(csv.DictReader(io.StringIO(content)))


def test_the_scheme_of_work_has_a_line_a_lesson() -> None:
    rows = rows_of(plan_of(PLAIN))
    assert [row["lesson"] for row in rows] == ["1.1", "1.2", "1.3", "2.1", "2.2"]
    assert sum(int(row["minutes"]) for row in rows) == 270
    assert rows[0]["date"] == "2027-03-24"
    assert rows[1]["date"] == "2027-03-28"
    assert {row["generator"] for row in rows} == {"rule-based"}


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
    assert minutes == [60, 60, 60, 45, 45]
    assert len(list(calendar.walk("VTIMEZONE"))) == 1
    assert Calendar.from_ical(content_of(plan_of(hostile()), "ics"))


def test_a_plan_without_a_first_day_starts_on_the_monday_after_it_was_made() -> None:
    body = {**PLAIN, "preferences": {"lessonsPerDay": 2, "lessonMinutes": 60}}
    days = [meeting.begins.date() for meeting in timetable(plan_of(body))]
    assert days == [date(2026, 11, 23)] * 2 + [date(2026, 11, 24)] * 2 + [date(2026, 11, 25)]


def test_a_day_takes_no_lesson_that_would_end_after_midnight() -> None:
    wishes = {"lessonsPerDay": 12, "lessonMinutes": 480, "startTime": "08:00", "weekdays": ["MO"]}
    body = {**PLAIN, "preferences": wishes}
    body["modules"] = [{**PLAIN["modules"][0], "contactHours": 24}]
    meetings = timetable(plan_of(body))
    assert [meeting.begins.strftime("%d %H:%M") for meeting in meetings] == [
        "23 08:00",
        "30 08:00",
        "07 08:00",
    ]


def test_json_holds_the_same_as_the_plan_and_is_stable() -> None:
    first, second = export(plan_of(PLAIN), "json"), export(plan_of(PLAIN), "json")
    assert first == second
    plan = json.loads(first.content)
    assert plan["totals"] == {
        "modules": 2,
        "lessons": 5,
        "contactMinutes": 270,
        "contactHours": 4.5,
    }


def test_a_file_is_named_after_the_plan_and_nothing_else() -> None:
    assert export(plan_of(PLAIN), "docx").name == "bread-for-beginners.docx"
    assert export(plan_of(hostile()), "csv").name == "hyperlink-http-evil-example-a1.csv"
    assert export(plan_of({**PLAIN, "title": "学び: 1/2"}), "ics").name == "学び-1-2.ics"
    assert export(plan_of({**PLAIN, "title": "…"}), "ics").name == "lesson-plans.ics"


@pytest.mark.parametrize("form", list(FORMATS))
def test_a_file_that_is_made_in_a_process_of_its_own_is_the_same(form: Format) -> None:
    plan = plan_of(PLAIN)
    made = export(plan, form)
    if form in {"docx", "pdf"}:  # which say when they were made
        text = docx_text if form == "docx" else pdf_text
        assert text(made.content) == text(content_of(plan, form))
    else:
        assert made.content == content_of(plan, form)


def test_a_file_that_cannot_be_made_is_an_error_that_names_it() -> None:
    plan = replace(plan_of(PLAIN), lessons=None)  # type: ignore[arg-type]  # as no plan is
    with pytest.raises(HomeroomError, match="The docx file could not be made"):
        export(plan, "docx")
