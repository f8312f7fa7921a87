"""Properties of rule-based plans: exact minutes, variety, retrieval.

They hold for the examples and for 200 generated curricula.
"""

from __future__ import annotations

import csv
import random
import re
from collections import Counter
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from rapidfuzz.distance import Levenshtein

from homeroom.lessonplans.activity_patterns import load_patterns
from homeroom.lessonplans.bloom import OutcomeDomain
from homeroom.lessonplans.curriculum import Curriculum
from homeroom.lessonplans.curriculum_file import CURRICULUM_FORMATS, read_curriculum_file
from homeroom.lessonplans.curriculum_parser import parse_curriculum
from homeroom.lessonplans.lesson import LessonBody, check_plan
from homeroom.lessonplans.lesson_allocation import LessonSlot, allocate_lessons
from homeroom.lessonplans.rule_writer import write_lesson_by_rules

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = sorted((ROOT / "examples/curricula").iterdir())
LABELLED = ROOT / "tests/unit/lessonplans/labelled_outcomes.csv"
METAL = ROOT / "examples/curricula/metal-joining.yaml"
GENERATED = 200
LEAST_DISTANCE = 0.10
MOST_SHARE = 0.20

Lessons = list[tuple[LessonSlot, LessonBody]]


@cache
def example(path: Path) -> Curriculum:
    form = CURRICULUM_FORMATS[path.suffix]
    return parse_curriculum(read_curriculum_file(path.read_bytes(), form, path.stem))


@cache
def outcome_texts(language: str) -> list[str]:
    rows = csv.DictReader(LABELLED.read_text(encoding="utf-8").splitlines(), delimiter=";")
    return [row["text"] for row in rows if row["language"] == language]


def generate_curriculum(seed: int) -> Curriculum:
    """Return a curriculum of 1 to 6 modules; the same seed gives the same one."""
    source = random.Random(seed)
    language = source.choice(["en", "en", "de"])
    texts = source.sample(outcome_texts(language), 36)
    modules: list[dict[str, Any]] = []
    for number in range(source.randint(1, 6)):
        outcomes: list[dict[str, Any]] = [
            {"id": f"O{number}.{index}", "text": texts.pop()}
            for index in range(source.randint(1, 6))
        ]
        hours = source.choice([1, 2, 3, 5, 7.5, 10, 12, 18, 24])
        if len(outcomes) > 1 and hours >= 5 and source.random() < 0.3:
            outcomes[0] |= {"hours": source.choice([0.5, 1, 1.75]), "criteria": ["It is complete"]}
        if source.random() < 0.3:
            outcomes[-1]["weight"] = source.choice([0.5, 2, 5])
        modules.append(
            {
                "id": f"m{number}",
                "title": f"Module {number}",
                "contactHours": hours,
                "outcomes": outcomes,
            }
        )
    return parse_curriculum(
        {
            "title": "Generated",
            "locale": language,
            "modules": modules,
            "preferences": {
                "lessonMinutes": source.choice([30, 45, 60, 75, 90, 120]),
                "deliveryMode": source.choice(["classroom", "online", "on the job", "blended"]),
                "leftover": source.choice(["shorter_lesson", "spread"]),
                "groupSize": source.choice([None, 1, 4, 12, 28]),
            },
        }
    )


def write_plan(curriculum: Curriculum) -> Lessons:
    return [
        (slot, write_lesson_by_rules(slot, curriculum)) for slot in allocate_lessons(curriculum)
    ]


def blanked_text(curriculum: Curriculum, body: LessonBody) -> str:
    """Return the texts of a lesson without outcomes, module titles and numbers."""
    text = "\n".join(body.texts())
    for module in curriculum.modules:
        for outcome in module.outcomes:
            text = text.replace(outcome.text, "_").replace(outcome.id, "_")
        text = text.replace(module.title, "_")
    return re.sub(r"\d+", "0", text)


def least_distance(curriculum: Curriculum, lessons: Lessons) -> float:
    """Return the edit distance of the two most similar lessons, as a share of the longer one."""
    texts = [blanked_text(curriculum, body) for _, body in lessons]
    return min(
        (
            Levenshtein.normalized_distance(text, other, score_cutoff=LEAST_DISTANCE)
            for position, text in enumerate(texts)
            for other in texts[:position]
        ),
        default=1.0,
    )


def check_properties(curriculum: Curriculum) -> None:
    lessons = write_plan(curriculum)
    assert check_plan(curriculum, lessons) == []
    assert all(slot.minutes >= 15 for slot, _ in lessons)
    seen: set[str] = set()
    for slot, body in lessons:
        if seen:
            assert slot.retrieves
            assert {each.id for each in slot.retrieves} <= seen
            assert any(
                slot.retrieves[0].text in each.facilitator_does for each in body.activities[:1]
            )
        titles = [activity.title for activity in body.activities]
        assert len(set(titles)) == len(titles), "a pattern is in a lesson once"
        seen |= {outcome.id for outcome in slot.outcomes}
    for (before, _), (slot, _) in pairwise(lessons):
        assert not set(before.patterns) & set(slot.patterns), "no pattern follows itself"
    sequences = Counter(tuple(each.title for each in body.activities) for _, body in lessons)
    if len(lessons) >= 5:
        assert max(sequences.values()) <= MOST_SHARE * len(lessons)
    assert least_distance(curriculum, lessons) >= LEAST_DISTANCE


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_the_example_curricula_have_exact_minutes_and_varied_lessons(path: Path) -> None:
    check_properties(example(path))


@pytest.mark.parametrize("start", range(0, GENERATED, 20))
def test_generated_curricula_have_exact_minutes_and_varied_lessons(start: int) -> None:
    for seed in range(start, start + 20):
        check_properties(generate_curriculum(seed))


def test_the_same_input_gives_the_same_bytes() -> None:
    for seed in range(5):
        first, second = (write_plan(generate_curriculum(seed)) for _ in range(2))
        assert repr(first) == repr(second)


def test_lessons_of_an_outcome_follow_the_gradual_release() -> None:
    slots = [slot for slot in allocate_lessons(example(METAL)) if slot.module_index == 2]
    stages = [slot.stage.value for slot in slots if slot.outcomes[0].id == "W2" and slot.of == 5]
    assert stages == ["open", "model", "guided", "independent", "transfer"]
    assert [slot.stage.value for slot in slots][-4:] == [
        *("field_practice", "field_practice", "review", "assessment"),
    ]


def test_every_domain_has_at_least_twelve_patterns_of_its_own() -> None:
    counts = Counter(pattern.domain for pattern in load_patterns().values())
    assert all(counts[domain] >= 12 for domain in OutcomeDomain)
