"""Build the xAPI statements of a completion, and compare them with stored ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Literal
from urllib.parse import quote

from homeroom.completion.api import Completion, score_fraction
from homeroom.db.ids import derived_id
from homeroom.instant import to_rfc3339

XAPI_VERSION = "1.0.3"
Verb = Literal["completed", "passed"]
_VERBS = "http://adlnet.gov/expapi/verbs/"
_COURSE_TYPE = "http://adlnet.gov/expapi/activities/course"


def build_statements(source: str, completion: Completion) -> list[dict[str, Any]]:
    """Return ``completed``, and ``passed`` where the learner has a score.

    ``source`` is Homeroom's public URL: the home page of learners' accounts, and the start of the
    courses' ids. The ids follow from what happened (source, learner, course, attempt and verb), so
    a completion that is recorded anew, as after the loss of a database, has the same statements.
    """
    duration = f"PT{completion.time_spent}S"
    statements = [
        _statement(source, completion, "completed", {"completion": True, "duration": duration})
    ]
    score = score_fraction(completion.score)
    if score is not None:
        result = {"success": True, "score": {"scaled": score}, "duration": duration}
        statements.append(_statement(source, completion, "passed", result))
    return statements


def _statement(
    source: str, completion: Completion, verb: Verb, result: dict[str, Any]
) -> dict[str, Any]:
    user_id, course_id, attempt = completion.user_id, completion.course_id, completion.attempt
    parts = (source, user_id, course_id, str(attempt))
    return {
        "id": derived_id("xapi", *parts, verb),
        "actor": {
            "objectType": "Agent",
            "account": {"homePage": source, "name": user_id},
        },
        "verb": {"id": _VERBS + verb, "display": {"en": verb}},
        "object": {
            "objectType": "Activity",
            "id": f"{source}/api/v1/courses/{quote(course_id, safe='')}",
            "definition": {
                "type": _COURSE_TYPE,
                "name": {"und": completion.course_title},
            },
        },
        "result": result,
        "context": {"registration": derived_id("xapi", *parts), "platform": "Homeroom"},
        "timestamp": to_rfc3339(completion.completed_at),
    }


def is_same_statement(ours: Any, stored: Any, *, key: str = "") -> bool:
    """Return whether a store holds what we send; it may have added to it.

    A store sets ``stored``, ``authority`` and ``version``, and may write a time in another form.
    """
    if isinstance(ours, Mapping):
        return isinstance(stored, Mapping) and all(
            name in stored and is_same_statement(value, stored[name], key=name)
            for name, value in ours.items()
        )
    if isinstance(ours, Sequence) and not isinstance(ours, str):
        return (
            isinstance(stored, Sequence)
            and len(ours) == len(stored)
            and all(map(is_same_statement, ours, stored))
        )
    if key == "timestamp" and isinstance(stored, str):
        try:
            return datetime.fromisoformat(ours) == datetime.fromisoformat(stored)
        except (TypeError, ValueError):
            return False
    return bool(ours == stored)
