"""The courses, staff and curriculum of the example school."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import date
from typing import Any

from homeroom.demo.workload import Outline, parse_outline
from homeroom.lessonplans.curriculum_file import read_curriculum_file
from homeroom.packaged_files import packaged_folder

MANAGER = "mara"
MANAGER_NAME = "Mara Lindqvist"
FACILITATORS = {"ada": "Ada Okafor", "ben": "Ben Fischer", "chen": "Chen Novak"}
"""Facilitators by user id."""
PROGRAMME = "data-lab"
PROGRAMME_TITLE = "Data lab"
PROGRAMME_WEEKS = 8
_CURRICULUM_FILE = "data-skills.yaml"


def example_courses() -> list[Outline]:
    """Return the courses of ``examples/courses``."""
    files = sorted((packaged_folder("examples") / "courses").glob("*.json"))
    return [parse_outline(json.loads(file.read_text(encoding="utf-8"))) for file in files]


def example_curriculum() -> Any:
    """Return the example curriculum."""
    file = packaged_folder("examples") / "curricula" / _CURRICULUM_FILE
    return read_curriculum_file(file.read_bytes(), "yaml", "")


def staff_member(user_id: str, name: str, manager_id: str | None = None) -> dict[str, Any]:
    """Return the body of ``PUT /api/v1/people/{userId}`` for a member of staff."""
    given, family = name.split()
    body: dict[str, Any] = {
        "email": f"{user_id}@school.example",
        "givenName": given,
        "familyName": family,
        "locale": "en",
        "timeZone": "Europe/Berlin",
    }
    return body if manager_id is None else {**body, "managerId": manager_id}


def example_log(today: date, present: int = 11) -> Mapping[str, Any]:
    """Return the content of a facilitator's log of the week of ``today``."""
    return {
        "attendance": [{"heldOn": today.isoformat(), "present": present, "expected": 12}],
        "grading": {"Portfolio": "done"},
        "notes": "We cleaned the survey data and drew the first charts.",
    }


def week_key(day: date) -> str:
    """Return the ISO week of a day, such as ``2026-W49``."""
    year, week, _ = day.isocalendar()
    return f"{year}-W{week:02}"
