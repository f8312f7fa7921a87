"""The JSON Schema of a course's body, for the OpenAPI document; ``body.parse`` is what decides."""

from __future__ import annotations

from typing import Any

from homeroom.catalogue.body import MAX_CHAPTERS, MAX_HOURS, MAX_TITLE, MAX_UNITS, MAX_WEIGHT
from homeroom.catalogue.course import MoveOn

_ID: dict[str, Any] = {"type": "string", "minLength": 1, "maxLength": 128}
_TITLE: dict[str, Any] = {"type": "string", "minLength": 1, "maxLength": MAX_TITLE}
_CHAPTER: dict[str, Any] = {
    "type": "object",
    "required": ["id", "title"],
    "additionalProperties": False,
    "properties": {
        "id": _ID,
        "title": _TITLE,
        "weight": {
            "type": "number",
            "minimum": 0,
            "maximum": MAX_WEIGHT,
            "default": 1,
            "description": "At most 4 decimals.",
        },
        "required": {"type": "boolean", "default": True},
        "moveOn": {"enum": [each.value for each in MoveOn], "default": MoveOn.COMPLETED.value},
        "quiz": {
            "type": ["object", "null"],
            "required": ["passThreshold"],
            "additionalProperties": False,
            "properties": {"passThreshold": {"type": "number", "minimum": 0, "maximum": 1}},
            "description": "Needed where moveOn asks for a pass.",
        },
    },
}
_UNIT: dict[str, Any] = {
    "type": "object",
    "required": ["id", "title", "chapters"],
    "additionalProperties": False,
    "properties": {
        "id": _ID,
        "title": _TITLE,
        "chapters": {"type": "array", "items": _CHAPTER, "maxItems": MAX_CHAPTERS},
    },
}
COURSE: dict[str, Any] = {
    "type": "object",
    "required": ["title", "units"],
    "additionalProperties": False,
    "properties": {
        "title": _TITLE,
        "units": {"type": "array", "items": _UNIT, "maxItems": MAX_UNITS},
        "criteria": {
            "type": ["object", "null"],
            "description": (
                'A tree of {"all": [...]} and {"any": [...]} over {"type": "all_items"}, '
                '{"type": "n_of_m", "n": 3, "of": [chapterId]?}, '
                '{"type": "min_course_grade", "grade": 0.7}, {"type": "min_time", "seconds": 60}, '
                '{"type": "prerequisite", "courseId": "..."}, {"type": "manual"}. '
                "Without any: all_items."
            ),
        },
        "autoEnrol": {"type": "boolean", "default": True},
        "trustClient": {"type": "boolean", "default": False},
        "badgeTemplateId": {"type": ["string", "null"], "minLength": 1, "maxLength": 128},
        "validity": {
            "type": ["string", "null"],
            "description": "An ISO 8601 duration, such as P1Y.",
        },
        "estimatedHours": {"type": ["number", "null"], "minimum": 0, "maximum": MAX_HOURS},
        "quizPolicy": {"enum": ["best", "latest", "first", "average"], "default": "best"},
        "learnerPolicy": {
            "enum": ["at_next_visit", "now", "never", "require_new"],
            "default": "at_next_visit",
        },
        "completeOnEdit": {"type": "boolean", "default": False},
        "courseId": {**_ID, "description": "As a read returns it; must be the one of the path."},
        "version": {"type": "integer", "description": "Ignored."},
        "publishedAt": {"type": "string", "description": "Ignored."},
    },
    "example": {
        "title": "Fire safety induction",
        "units": [
            {
                "id": "basics",
                "title": "Basics",
                "chapters": [
                    {"id": "exits", "title": "Where the exits are"},
                    {
                        "id": "check",
                        "title": "Check yourself",
                        "moveOn": "Passed",
                        "quiz": {"passThreshold": 0.8},
                    },
                ],
            }
        ],
    },
}
