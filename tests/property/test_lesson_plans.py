"""Whatever curriculum comes, the rule-based plan is right, and the same each time (issue 4)."""

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
from tests.effort import EFFORT
from tests.unit.lessonplans.plans import plan_of

from homeroom.lessonplans import curriculum as document
from homeroom.lessonplans import rule_based
from homeroom.lessonplans.bloom import VERBS, Bloom
from homeroom.lessonplans.check import check_plan
from homeroom.lessonplans.curriculum import Curriculum
from homeroom.lessonplans.export.format import FORMATS, Format
from homeroom.lessonplans.export.press import MAKERS
from homeroom.lessonplans.skeleton import largest_remainder, skeleton

WORDS = sorted(verb for verbs in VERBS.values() for verb in verbs)
TEXT = st.one_of(
    st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=120),
    st.builds(
        "{} how https://example.org/{} works".format, st.sampled_from(WORDS), st.integers(0, 99)
    ),
    st.builds("Learners {} the basics".format, st.sampled_from(WORDS)),
).filter(str.strip)
LEVEL = st.one_of(st.none(), st.sampled_from([level.value for level in Bloom]))


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
                "contactHours": document.hours(minutes),
                "outcomes": outcomes,
            }
        )
    preferences = {
        "lessonMinutes": draw(st.integers(30, 480)),
        "deliveryMode": draw(st.sampled_from(["classroom", "online at www.example.org"])),
        "lessonsPerDay": draw(st.integers(1, 3)),
    }
    return {"title": draw(TEXT), "modules": modules, "preferences": preferences}


def written(curriculum: Curriculum) -> list[Any]:
    return [
        (
            slot,
            rule_based.write(
                slot,
                curriculum.modules[slot.module_index].title,
                curriculum.preferences.delivery_mode,
            ),
        )
        for slot in skeleton(curriculum)
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
    curriculum = document.parse(body)
    plan = written(curriculum)
    assert check_plan(curriculum, plan) == []
    assert sum(slot.minutes for slot, _ in plan) == curriculum.minutes
    again = written(document.parse(document.dump(curriculum)))
    assert [(slot, lesson.model_dump_json()) for slot, lesson in again] == [
        (slot, lesson.model_dump_json()) for slot, lesson in plan
    ]


@given(bodies())
@settings(max_examples=50 * EFFORT, deadline=None, derandomize=True)
def test_outcomes_are_taught_in_the_order_of_the_curriculum(body: dict[str, Any]) -> None:
    curriculum = document.parse(body)
    taught: list[str] = []
    for slot in skeleton(curriculum):
        for outcome in slot.outcomes:
            if outcome.id not in taught:
                taught.append(outcome.id)
    assert taught == [each.id for module in curriculum.modules for each in module.outcomes]


@given(st.integers(0, 10_000), st.lists(st.integers(1, 50), min_size=1, max_size=40))
@settings(deadline=None, derandomize=True)
def test_shares_add_up_and_are_off_by_less_than_one(total: int, weights: list[int]) -> None:
    shares = largest_remainder(total, weights)
    assert sum(shares) == total
    for share, weight in zip(shares, weights, strict=True):
        assert abs(share - total * weight / sum(weights)) < 1


@given(bodies(), st.sampled_from(list(FORMATS)))
@settings(
    max_examples=60 * EFFORT,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
def test_every_text_can_be_exported_to_every_format(body: dict[str, Any], form: Format) -> None:
    content = (FORMATS[form].make or MAKERS[form])(plan_of(body, gap=True))
    if form in {"imscc", "docx"}:
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
