"""A rule-based plan of any curriculum passes every check and is deterministic."""

from __future__ import annotations

import csv
import io
import json
import zipfile
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from icalendar import Calendar
from lxml import etree
from pypdf import PdfReader
from tests.support.effort import EFFORT
from tests.support.lesson_plan import plan_of

from homeroom.lessonplans.bloom import BloomLevel
from homeroom.lessonplans.curriculum import (
    Curriculum,
    contact_hours,
    dump_curriculum,
)
from homeroom.lessonplans.curriculum_parser import parse_curriculum
from homeroom.lessonplans.export.formats import EXPORT_FORMATS, ExportFormat
from homeroom.lessonplans.export.render_process import RENDERERS
from homeroom.lessonplans.lesson import check_plan
from homeroom.lessonplans.lesson_allocation import allocate_lessons
from homeroom.lessonplans.lesson_time import split_by_largest_remainder
from homeroom.lessonplans.rule_writer import write_lesson_by_rules
from homeroom.lessonplans.verb_table import load_verb_table

VERBS = sorted(load_verb_table("en").verbs)
TEXT = st.one_of(
    st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=120),
    st.builds(
        "{} how https://example.org/{} works".format, st.sampled_from(VERBS), st.integers(0, 99)
    ),
    st.builds("Learners {} the basics".format, st.sampled_from(VERBS)),
).filter(str.strip)
LEVEL = st.one_of(st.none(), st.sampled_from([level.value for level in BloomLevel]))


@st.composite
def bodies(draw: st.DrawFn) -> dict[str, Any]:
    modules = []
    for number in range(draw(st.integers(1, 6))):
        texts = draw(st.lists(TEXT, min_size=1, max_size=12))
        minutes = draw(st.one_of(st.integers(15, 300), st.integers(301, 4_000)))
        outcomes = [
            {"id": f"{number}.{index}", "text": text, "bloomLevel": draw(LEVEL)}
            for index, text in enumerate(texts)
        ]
        modules.append(
            {
                "id": f"module {number}",
                "title": draw(TEXT),
                "contactHours": contact_hours(minutes),
                "outcomes": outcomes,
            }
        )
    preferences = {
        "lessonMinutes": draw(st.integers(30, 480)),
        "deliveryMode": draw(st.sampled_from(["classroom", "online at www.example.org"])),
        "lessonsPerDay": draw(st.integers(1, 3)),
    }
    return {"title": draw(TEXT), "modules": modules, "preferences": preferences}


def write_plan(curriculum: Curriculum) -> list[Any]:
    return [
        (slot, write_lesson_by_rules(slot, curriculum)) for slot in allocate_lessons(curriculum)
    ]


@settings(
    max_examples=200 * EFFORT,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(bodies())
def test_a_rule_based_plan_passes_every_check_and_is_the_same_each_time(
    body: dict[str, Any],
) -> None:
    curriculum = parse_curriculum(body)
    plan = write_plan(curriculum)
    assert check_plan(curriculum, plan) == []
    assert sum(slot.minutes for slot, _ in plan) == curriculum.minutes
    again = write_plan(parse_curriculum(dump_curriculum(curriculum)))
    assert [(slot, lesson.model_dump_json()) for slot, lesson in again] == [
        (slot, lesson.model_dump_json()) for slot, lesson in plan
    ]


@given(bodies())
@settings(max_examples=50 * EFFORT, deadline=None, derandomize=True)
def test_outcomes_are_taught_in_the_order_of_the_curriculum(body: dict[str, Any]) -> None:
    curriculum = parse_curriculum(body)
    taught: list[str] = []
    for slot in allocate_lessons(curriculum):
        for outcome in slot.outcomes:
            if outcome.id not in taught:
                taught.append(outcome.id)
    assert taught == [each.id for module in curriculum.modules for each in module.outcomes]


@given(st.integers(0, 10_000), st.lists(st.integers(1, 50), min_size=1, max_size=40))
@settings(deadline=None, derandomize=True)
def test_shares_add_up_and_are_off_by_less_than_one(total: int, weights: list[int]) -> None:
    shares = split_by_largest_remainder(total, weights)
    assert sum(shares) == total
    for share, weight in zip(shares, weights, strict=True):
        assert abs(share - total * weight / sum(weights)) < 1


@given(bodies(), st.sampled_from(list(EXPORT_FORMATS)))
@settings(
    max_examples=60 * EFFORT,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
def test_every_text_can_be_exported_to_every_format(
    body: dict[str, Any], form: ExportFormat
) -> None:
    content = (EXPORT_FORMATS[form].render or RENDERERS[form])(plan_of(body, gap=True))
    if form in {"imscc", "imscc-1.3", "docx"}:
        packed = zipfile.ZipFile(io.BytesIO(content))
        assert packed.testzip() is None
        for name in packed.namelist():
            if name.endswith(".xml"):
                etree.fromstring(packed.read(name))
    elif form == "ics":
        assert list(Calendar.from_ical(content).walk("VEVENT"))
    elif form == "csv":
        rows = list(csv.reader(io.StringIO(content.decode("utf-8-sig"))))
        assert len({len(row) for row in rows}) == 1
    elif form == "pdf":
        assert PdfReader(io.BytesIO(content)).pages
    elif form == "json":
        json.loads(content)
