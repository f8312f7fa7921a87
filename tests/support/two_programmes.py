"""A running Homeroom with two managers, each with a learner, a programme and its facilitator."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import jwt
from tests.support.condition import PATIENCE_SECONDS
from tests.support.homeroom_process import ADMIN, server

JWT_SECRET = "a secret of the two programmes, 32 bytes long"
MARK = "b7f3"
"""In every id, name and text that is about people of the second manager."""
UNKNOWN = "zz99"
"""In place of ``MARK``: ids of records that do not exist."""
_COURSE = {
    "title": "Fire safety",
    "units": [{"id": "u", "title": "U", "chapters": [{"id": "a", "title": "A"}]}],
}


@dataclass
class TwoProgrammes:
    """Mira manages Ada and Fin, Otto manages Ben and Fay; all completed or log the same."""

    url: str
    ids: dict[str, str]
    """Ids of records of Otto's people by the names of path parameters."""

    def client(self, subject: str, *roles: str) -> httpx.Client:
        """Return a client with the JWT of a person."""
        claims = {"sub": subject, "roles": list(roles), "exp": time.time() + 600}
        token = jwt.encode(claims, JWT_SECRET, "HS256")
        headers = {"Authorization": f"Bearer {token}"}
        return httpx.Client(base_url=self.url, headers=headers, timeout=60, trust_env=False)


@contextmanager
def two_programmes(folder: Path) -> Iterator[TwoProgrammes]:
    """Serve the two programmes."""
    settings = {"HOMEROOM_JWT_SECRET": JWT_SECRET, "HOMEROOM_CREDENTIAL_ALLOW_HTTP": "true"}
    with (
        server(folder, settings) as url,
        httpx.Client(base_url=url, headers=ADMIN, timeout=60, trust_env=False) as admin,
    ):
        admin.put("/api/v1/courses/fire", json=_COURSE).raise_for_status()
        _fill(admin, "a1a1")
        ids = _fill(admin, MARK)
        yield TwoProgrammes(url, ids)


def learner(mark: str) -> str:
    """Return the id of a manager's learner."""
    return f"learner-{mark}"


def manager(mark: str) -> str:
    """Return the id of a manager."""
    return f"manager-{mark}"


def _fill(admin: httpx.Client, mark: str) -> dict[str, str]:
    """Store a manager's people with everything that may be read about them."""
    week = "{}-W{:02}".format(*datetime.now(UTC).isocalendar()[:2])
    monday = datetime.now(UTC).date() - timedelta(days=60)
    for kind, manager_id in (("learner", manager(mark)), ("facilitator", None)):
        person = {
            "email": f"{kind}-{mark}@example.org",
            "givenName": f"Given {mark}",
            "familyName": f"Family {mark}",
            "managerId": manager_id,
        }
        admin.put(f"/api/v1/people/{kind}-{mark}", json=person).raise_for_status()
    programme = f"/api/v1/programmes/programme-{mark}"
    body: dict[str, Any] = {
        "title": f"Programme {mark}",
        "timeZone": "UTC",
        "managers": [manager(mark)],
    }
    admin.put(programme, json=body).raise_for_status()
    body = {
        "title": f"Offering {mark}",
        "facilitatorId": f"facilitator-{mark}",
        "startsOn": str(monday),
        "endsOn": str(monday + timedelta(days=120)),
    }
    admin.put(f"{programme}/offerings/offering-{mark}", json=body).raise_for_status()
    body = {"offeringId": f"offering-{mark}", "week": week, "notes": f"Notes {mark}"}
    log = admin.post("/api/v1/activity-logs", json=body).raise_for_status().json()
    leave = {
        "userId": f"facilitator-{mark}",
        "startsOn": str(monday),
        "endsOn": str(monday + timedelta(days=1)),
        "reason": "leave",
        "note": f"Note {mark}",
    }
    exemption = admin.post(f"{programme}/exemptions", json=leave).raise_for_status().json()
    event = {
        "id": f"event-{mark}",
        "userId": learner(mark),
        "courseId": "fire",
        "chapterId": "a",
        "eventType": "chapter_complete",
        "timestamp": int(time.time() * 1_000),
        "metadata": {"text": mark},
    }
    answer = admin.post("/api/progress/enhanced-update", json=[event]).raise_for_status()
    assert answer.json()["accepted"] == 1, answer.text
    mine = {"userId": learner(mark)}
    return {
        "userId": learner(mark),
        "facilitatorId": f"facilitator-{mark}",
        "managerId": manager(mark),
        "courseId": "fire",
        "programmeId": f"programme-{mark}",
        "offeringId": f"offering-{mark}",
        "exemptionId": exemption["id"],
        "logId": log["id"],
        "week": week,
        "completionId": _first(admin, "/api/v1/completions", mine),
        "credentialId": _first(admin, "/api/v1/credentials", mine),
    }


def _first(admin: httpx.Client, path: str, query: dict[str, str]) -> str:
    """Wait for the first item of a list; the worker creates some of them."""
    limit = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < limit:
        items = admin.get(path, params=query).raise_for_status().json()["items"]
        if items:
            return str(items[0]["id"])
        time.sleep(0.05)
    raise AssertionError(f"{path} stayed empty")
