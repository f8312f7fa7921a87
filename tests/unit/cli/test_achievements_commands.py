"""Achievements from the command line: rules of a file, whom they award, who has what."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[3]
EXAMPLE = str(ROOT / "examples" / "achievements" / "first-rules.yaml")


@pytest.fixture
def school(terminal: Any) -> Any:
    """Publish the example courses; ada has completed one, bo both."""
    terminal.ok("courses", "import", str(ROOT / "examples" / "courses"))
    for user, course, score in (
        ("ada", "site-safety-induction", 9_500),
        ("bo", "site-safety-induction", 7_000),
        ("bo", "data-foundations", 8_000),
    ):
        terminal.rows(
            "INSERT INTO completion (id, user_id, course_id, attempt, course_version,"
            " course_title, completed_at, recorded_at, score, time_spent, chapters) VALUES"
            f" ('{user}-{course}', '{user}', '{course}', 1, 1, 'T', 1, 1, {score}, 1, '[]')"
        )
    return terminal


def test_a_file_of_rules_is_tried_stored_awarded_and_read_back(school: Any) -> None:
    tried = school.ok("achievements", "set", EXAMPLE, "--dry-run", "--json").json
    assert [(each["ruleId"], each["userId"]) for each in tried["items"]] == [
        ("first-course", "ada"),
        ("first-course", "bo"),
        ("high-score", "ada"),
        ("ready-for-site", "bo"),
    ]
    assert school.ok("achievements", "list", "--json").json == {"items": []}
    for _ in range(2):  # the same file makes no new versions
        stored = school.ok("achievements", "set", EXAMPLE, "--json").json["items"]
        assert [each["version"] for each in stored] == [1, 1, 1, 1]
    rules = school.ok("achievements", "list", "--json").json["items"]
    assert rules[3]["condition"] == {
        "type": "path",
        "courseIds": ["site-safety-induction", "data-foundations"],
    }
    assert school("achievements", "award", "first-course", answer="n\n").code == 1
    assert school.rows("SELECT count(*) FROM achievement_award") == [(0,)]
    for learners in (["ada", "bo"], []):
        done = school.ok("achievements", "award", "first-course", "--yes", "--json").json
        assert [each["userId"] for each in done["items"]] == learners
    held = school.ok("achievements", "holders", "first-course", "--json").json["items"]
    assert [each["userId"] for each in held] == ["ada", "bo"]
    shown = school.ok("achievements", "show", "ada", "--json").json
    assert [each["ruleId"] for each in shown["awarded"]] == ["first-course"]
    assert shown["next"][0] == {
        "ruleId": "high-score", "title": "Nine tenths", "done": 1, "required": 1,
    }  # fmt: skip
    school.ok("achievements", "archive", "first-course", "--yes")
    assert school("achievements", "award", "first-course", "--yes").code == 4
    assert "ada" in school.ok("achievements", "holders", "first-course").out
    assert "First course" in school.ok("achievements", "show", "ada").out


FAULTY = [
    ("rules.yaml", "- id: [", "is not YAML"),
    ("rules.json", '[{"id": "a"', "is not JSON"),
    ("rules.yaml", "[]", "holds no rule"),
    ("rules.yaml", "title: T", "rule 1 is no object with an id"),
    ("rules.yaml", "- {id: a, title: T, condition: {type: courses, cuont: 2}}", "cuont"),
    ("rules.yaml", "{id: a, title: T, condition: {type: path, courseIds: [x]}}", "published"),
    (
        "rules.json",
        '[{"id": "a", "title": "T", "condition": {"type": "courses"}},'
        ' {"id": "a", "title": "U", "condition": {"type": "courses"}}]',
        "an earlier rule has the id",
    ),
]


def test_a_faulty_file_stores_nothing(school: Any, tmp_path: Path) -> None:
    for name, text, said in FAULTY:
        file = tmp_path / name
        file.write_text(text, encoding="utf-8")
        ended = school("achievements", "set", str(file))
        assert (ended.code, said in ended.err) == (2, True), (text, ended.err)
    assert school.rows("SELECT count(*) FROM achievement_rule") == [(0,)]
