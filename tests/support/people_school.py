"""Facilitators, managers and authors at the school that the console shows."""

from __future__ import annotations

import sqlite3
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import jwt
from tests.support.condition import PATIENCE_SECONDS
from tests.support.console_school import HALFWAY, JWT_SECRET, ConsoleSchool

PROGRAMME_ID, OTHER_PROGRAMME_ID = "data-lab", "law"
_WEEKS_BACK = 3
_PEOPLE = {
    "ada": ("Ada", "Okafor"),
    "ben": ("Ben", "Li"),
    "mara": ("Mara", "Weiss"),
    "otto": ("Otto", "Kern"),
}
_CURRICULUM: dict[str, Any] = {
    "title": "Bread for beginners",
    "locale": "en",
    "modules": [
        {
            "id": "flour",
            "title": "Flour",
            "contactHours": 2,
            "outcomes": [
                {"id": "f1", "text": "Name three kinds of flour"},
                {"id": "f2", "text": "Compare how much water each takes"},
            ],
        }
    ],
}


@dataclass
class PeopleSchool:
    """A school with two programmes, weeks that were missed, and a written lesson plan."""

    school: ConsoleSchool
    week: str
    """The current week in the programmes' zone."""
    plan_id: str

    def token(self, user_id: str, *roles: str) -> str:
        """Return the token that the school's own platform gives to a person."""
        claims = {"sub": user_id, "roles": list(roles), "exp": time.time() + 3_600}
        return jwt.encode(claims, JWT_SECRET, "HS256")

    def get(self, path: str, **query: Any) -> Any:
        """Return what the API answers to an admin."""
        return self.school.client.get(path, params=query).raise_for_status().json()


def add_people(school: ConsoleSchool) -> PeopleSchool:
    """Add people, programmes with past weeks, and a lesson plan that is written."""
    put = school.client.put
    for user_id, (given, family) in _PEOPLE.items():
        person = {"givenName": given, "familyName": family, "email": f"{user_id}@example.org"}
        put(f"/api/v1/people/{user_id}", json=person).raise_for_status()
    report = {"givenName": "Cem", "familyName": "Aydin", "managerId": "mara"}
    put(f"/api/v1/people/{HALFWAY[0]}", json=report).raise_for_status()
    for id, title, manager in (
        (PROGRAMME_ID, "Data lab", "mara"),
        (OTHER_PROGRAMME_ID, "Law", "otto"),
    ):
        programme = {"title": title, "timeZone": "UTC", "managers": [manager]}
        put(f"/api/v1/programmes/{id}", json=programme).raise_for_status()
    for id, title, facilitator, programme_id in (
        ("stats", "Statistics", "ada", PROGRAMME_ID),
        ("sql", "Databases", "ben", PROGRAMME_ID),
        ("tax", "Taxes", "ben", OTHER_PROGRAMME_ID),
    ):
        offering = {
            "title": title,
            "facilitatorId": facilitator,
            "startsOn": "2026-01-05",
            "endsOn": "2046-12-31",
        }
        path = f"/api/v1/programmes/{programme_id}/offerings/{id}"
        put(path, json=offering).raise_for_status()
    _open_past_weeks(school)
    _report_last_week(school)
    return PeopleSchool(school, f"{datetime.now(UTC):%G-W%V}", _write_plan(school))


def _open_past_weeks(school: ConsoleSchool) -> None:
    """Open the weeks before this one, as if the offerings were known for longer."""
    since = datetime.now(UTC) - timedelta(weeks=_WEEKS_BACK)
    with sqlite3.connect(school.folder / "homeroom.db", timeout=30) as db:
        db.execute("UPDATE offering SET created_at = ?", (int(since.timestamp() * 1e6),))
        db.execute("DELETE FROM log_obligation")
    for id in (PROGRAMME_ID, OTHER_PROGRAMME_ID):
        school.client.post(f"/api/v1/schedules/open_week.{id}/run").raise_for_status()
        _wait(lambda id=id: _count_weeks(school, id) > _WEEKS_BACK)


def _report_last_week(school: ConsoleSchool) -> None:
    """Send the report of last week, which warns the manager of missed logs."""
    school.client.post(f"/api/v1/schedules/report.{PROGRAMME_ID}/run").raise_for_status()
    team = "/api/v1/team?managerId=mara"
    _wait(lambda: any(each["behind"] for each in school.client.get(team).json()["items"]))


def _count_weeks(school: ConsoleSchool, programme_id: str) -> int:
    answer = school.client.get(f"/api/v1/programmes/{programme_id}/weeks").raise_for_status()
    return min((len(each["weeks"]) for each in answer.json()["items"]), default=0)


def _write_plan(school: ConsoleSchool) -> str:
    made = school.client.post("/api/v3/workflow", json=_CURRICULUM).raise_for_status()
    plan_id = str(made.json()["workflowId"])
    path = f"/api/v3/workflow/{plan_id}/step10"
    school.client.post(path).raise_for_status()
    _wait(lambda: school.client.get(f"{path}/status").json()["data"]["allComplete"])
    return plan_id


def _wait(is_there: Any) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not is_there():
        assert time.monotonic() < deadline
        time.sleep(0.05)
