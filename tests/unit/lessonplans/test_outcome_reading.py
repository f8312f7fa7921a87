"""Level and domain of outcomes are read from the main verb and its object."""

from __future__ import annotations

import csv
from collections import Counter
from pathlib import Path

import pytest
from tests.docs.outcome_confusion import confusion_lines

from homeroom.lessonplans.bloom import BloomLevel
from homeroom.lessonplans.outcome_reading import read_outcome
from homeroom.lessonplans.verb_table import load_verb_table

LABELLED = Path(__file__).with_name("labelled_outcomes.csv")
ROWS = list(csv.DictReader(LABELLED.read_text(encoding="utf-8").splitlines(), delimiter=";"))
DOCS = Path(__file__).resolve().parents[3] / "docs/lesson-plans.md"


@pytest.mark.parametrize(("language", "count"), [("en", 150), ("de", 40)])
def test_level_and_domain_are_right_for_most_labelled_outcomes(language: str, count: int) -> None:
    rows = [row for row in ROWS if row["language"] == language]
    assert len(rows) == count
    right: Counter[str] = Counter()
    for row in rows:
        reading = read_outcome(row["text"], "de" if language == "de" else "en")
        right["level"] += reading.level == row["level"]
        right["domain"] += reading.domain == row["domain"]
    assert min(right["level"], right["domain"]) >= 0.85 * count, right


def test_the_confusion_matrix_in_the_docs_is_current() -> None:
    assert "\n".join(confusion_lines(ROWS)) in DOCS.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("text", "level", "domain", "verb"),
    [
        ("Reflect on one's own practice", "evaluate", "affective", "reflect"),
        ("Critically analyse and explain the causes", "analyze", "cognitive", "analyse"),
        ("Plan, carry out and evaluate a survey", "create", "cognitive", "plan"),
        ("Identify a term", "remember", "cognitive", "identify"),
        ("Identify causes of faults", "analyze", "cognitive", "identify"),
        ("Develop an understanding of trade", "understand", "cognitive", "develop"),
        ("Develop a prototype", "create", "cognitive", "develop"),
        ("Demonstrate knowledge of rules", "understand", "cognitive", "demonstrate"),
        ("Demonstrate a safe lifting procedure", "apply", "psychomotor", "demonstrate"),
        ("Given a diagram, wire a socket", "apply", "psychomotor", "wire"),
        ("By the end learners will be able to analyse a recipe", "analyze", "cognitive", "analyse"),
        ("• 3. Learners are able to safely operate a saw", "apply", "psychomotor", "operate"),
        ("Demonstrate the ability to weld a joint", "apply", "psychomotor", "weld"),
        ("Explain how to build and test a model", "understand", "cognitive", "explain"),
        ("Describe research and review methods", "understand", "cognitive", "describe"),
        ("Learner applies heat", "apply", "cognitive", "apply"),
        ("Planning a bakery", "create", "cognitive", "plan"),
        ("Knowledge of bread", "understand", "cognitive", None),
        ("Gronk the widget", "apply", "cognitive", None),
        ("Photosynthesis", "understand", "cognitive", None),
        ("", "understand", "cognitive", None),
    ],
)  # fmt: skip
def test_an_english_outcome_is_read_by_its_main_verb(
    text: str, level: str, domain: str, verb: str | None
) -> None:
    reading = read_outcome(text)
    assert (reading.level, reading.domain, reading.verb) == (level, domain, verb)


@pytest.mark.parametrize(
    ("text", "level", "domain", "verb"),
    [
        ("Brot backen", "apply", "psychomotor", "backen"),
        ("Stellen die Folgen dar", "understand", "cognitive", "darstellen"),
        ("Sind in der Lage, eine Formel anzuwenden", "apply", "cognitive", "anwenden"),
        ("Erklären, warum Teig geht und was ihn bremst", "understand", "cognitive", "erklären"),
        ("Ich kann einen Text beurteilen", "evaluate", "cognitive", "beurteilen"),
        ("Der Lernende misst die Spannung", "apply", "psychomotor", "messen"),
        ("Sicheres Bedienen einer Säge", "apply", "psychomotor", "bedienen"),
        ("Bereitschaft zur Zusammenarbeit", "apply", "affective", None),
        ("", "understand", "cognitive", None),
    ],
)
def test_a_german_outcome_is_read_by_its_verbs(
    text: str, level: str, domain: str, verb: str | None
) -> None:
    reading = read_outcome(text, "de")
    assert (reading.level, reading.domain, reading.verb) == (level, domain, verb)


def test_a_reading_names_the_words_that_it_rests_on() -> None:
    reading = read_outcome("Identify the causes of a loss and name them")
    assert reading.evidence == "identify … causes"
    assert reading.verbs == ("identify", "name")


@pytest.mark.parametrize(
    "text", ["and " * 300, ", " * 300, "to be able " * 60, "very " * 200 + "fast"]
)
def test_long_and_odd_texts_are_read_in_bounded_time(text: str) -> None:
    for language in ("en", "de"):
        assert read_outcome(text, "de" if language == "de" else "en").level in BloomLevel


def test_the_tables_have_many_verbs_of_every_domain() -> None:
    for language in ("en", "de"):
        table = load_verb_table("de" if language == "de" else "en")
        assert len(table.verbs) > 250
        assert len(set(table.verbs.values())) == 10
