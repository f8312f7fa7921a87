"""The language that texts look like."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from homeroom.lessonplans.curriculum_file import read_curriculum_file
from homeroom.lessonplans.text_language import other_language

EXAMPLES = Path(__file__).resolve().parents[3] / "examples/curricula"
LABELLED = Path(__file__).with_name("labelled_outcomes.csv")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Explain why dough rises, and bake bread", None),
        ("Explicar el papel de la levadura en la masa y en el pan", "Spanish"),
        ("Spiegare il ruolo del lievito nella pasta e nel pane di una volta", "Italian"),
        ("De rol van gist in het deeg uitleggen met een proef en een verslag", "Dutch"),
        ("Объяснить роль дрожжей в тесте", "a language in Cyrillic script"),
        ("解释酵母在面团中的作用", "a language in Cjk script"),
        ("Die Rolle der Hefe im Teig mit einem Versuch und der Lupe erklären", "German"),
        ("Le pain", None),
        ("", None),
    ],
)
def test_texts_that_are_clearly_not_english_are_told(text: str, expected: str | None) -> None:
    assert other_language([text]) == expected


@pytest.mark.parametrize("name", ["data-skills", "metal-joining", "community-health"])
def test_the_english_examples_are_english(name: str) -> None:
    path = EXAMPLES / f"{name}.yaml"
    body = read_curriculum_file(path.read_bytes(), "yaml", name)
    texts = [outcome["text"] for module in body["modules"] for outcome in module["outcomes"]]
    assert other_language(texts) is None


def test_no_single_labelled_outcome_in_english_is_taken_for_another_language() -> None:
    with LABELLED.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file, delimiter=";"))
    english = [row for row in rows if row["language"] == "en"]
    german = [row["text"] for row in rows if row["language"] == "de"]
    assert len(english) > 100
    assert [row["text"] for row in english if other_language([row["text"]])] == []
    assert other_language(german) == "German"
