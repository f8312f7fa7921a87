"""The lesson plans of the demo: the example curriculum, generated while the class plays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from homeroom.demo.check import Line
from homeroom.errors import HomeroomError
from homeroom.lessonplans.source import read

_NAME = "data-skills.yaml"


class CurriculumFailed(HomeroomError):
    """The example curriculum could not be generated."""

    code = "curriculum_failed"


@dataclass(frozen=True, slots=True)
class Generation:
    """A plan that was started, and what its curriculum asks for."""

    id: str
    modules: int
    minutes: int
    outcomes: int


async def start(api: httpx.AsyncClient) -> Generation:
    """Store the example curriculum and start its generation."""
    body = _example()
    created = await api.post("/api/v3/workflow", json=body)
    if created.status_code != httpx.codes.CREATED:
        raise CurriculumFailed(f"The curriculum was refused: {created.text}")
    id = created.json()["workflowId"]
    started = await api.post(f"/api/v3/workflow/{id}/step10")
    if started.status_code != httpx.codes.ACCEPTED:
        raise CurriculumFailed(f"The generation was refused: {started.text}")
    modules = body["modules"]
    return Generation(
        id,
        len(modules),
        round(sum(module["contactHours"] for module in modules) * 60),
        sum(len(module["outcomes"]) for module in modules),
    )


async def compare(api: httpx.AsyncClient, wanted: Generation) -> Sequence[Line]:
    """Return what the plan came to beside what the curriculum asks for."""
    plan = await _data(api, f"/api/v3/workflow/{wanted.id}/step10")
    status = await _data(api, f"/api/v3/workflow/{wanted.id}/step10/status")
    lessons = [lesson for module in plan["modules"] for lesson in module["lessons"]]
    minutes = sum(
        activity["minutes"] for lesson in lessons for activity in lesson.get("activities", ())
    )
    covered = sum(bool(each["taughtIn"] and each["assessedIn"]) for each in plan["coverage"])
    return [
        _line("lesson plans: modules", wanted.modules, status["modulesGenerated"]),
        _line("lesson plans: contact minutes", wanted.minutes, minutes),
        _line("lesson plans: outcomes taught and assessed", wanted.outcomes, covered),
        _line("lesson plans: gaps", 0, status["lessonsWithGaps"]),
    ]


def _example() -> Any:
    """Return the example curriculum, from the clone or as packaged in the wheel."""
    here = Path(__file__).resolve().parent
    for folder in (here / "curricula", here.parents[2] / "examples" / "curricula"):
        if (folder / _NAME).exists():
            return read((folder / _NAME).read_bytes(), "yaml", "")
    raise CurriculumFailed(f"The example curriculum is missing: examples/curricula/{_NAME}.")


async def _data(api: httpx.AsyncClient, path: str) -> Any:
    answer = await api.get(path)
    answer.raise_for_status()
    return answer.json()["data"]


def _line(what: str, expected: int, found: int) -> Line:
    return Line(what, f"{expected:,}", f"{found:,}", expected == found)
