"""JSON Schemas for the OpenAPI document; ``curriculum.parse`` is what decides."""

from __future__ import annotations

from typing import Any

from homeroom.lessonplans.bloom import Bloom
from homeroom.lessonplans.curriculum import (
    LESSON_MINUTES,
    MAX_MINUTES,
    MAX_MODULES,
    MAX_NOTES,
    MAX_OUTCOMES,
    MAX_TEXT,
    MAX_TITLE,
    MIN_MINUTES,
    WEEKDAYS,
)

_ID: dict[str, Any] = {"type": "string", "minLength": 1, "maxLength": 128}
_TITLE: dict[str, Any] = {"type": "string", "minLength": 1, "maxLength": MAX_TITLE}
_OUTCOME: dict[str, Any] = {
    "type": "object",
    "required": ["id", "text"],
    "additionalProperties": False,
    "properties": {
        "id": {**_ID, "description": "Unique in the curriculum."},
        "text": {"type": "string", "minLength": 1, "maxLength": MAX_TEXT},
        "bloomLevel": {
            "enum": [*(level.value for level in Bloom), None],
            "description": "Left out: read from the verb of the text.",
        },
    },
}
_MODULE: dict[str, Any] = {
    "type": "object",
    "required": ["id", "title", "contactHours", "outcomes"],
    "additionalProperties": False,
    "properties": {
        "id": {**_ID, "description": "Unique in the curriculum."},
        "title": _TITLE,
        "contactHours": {
            "type": "number",
            "minimum": MIN_MINUTES / 60,
            "maximum": MAX_MINUTES // 60,
            "description": "In whole minutes: 18.75 is 18 hours and 45 minutes.",
        },
        "outcomes": {
            "type": "array",
            "items": _OUTCOME,
            "minItems": 1,
            "maxItems": MAX_OUTCOMES,
        },
        "notes": {"type": ["string", "null"], "maxLength": MAX_NOTES},
    },
}
_PREFERENCES: dict[str, Any] = {
    "type": ["object", "null"],
    "additionalProperties": False,
    "properties": {
        "lessonMinutes": {
            "type": "integer",
            "minimum": LESSON_MINUTES[0],
            "maximum": LESSON_MINUTES[1],
            "default": 60,
        },
        "deliveryMode": {"type": "string", "maxLength": 60, "default": "classroom"},
        "startsOn": {
            "type": ["string", "null"],
            "format": "date",
            "description": "First day of teaching. Left out: the Monday after the plan was made.",
        },
        "startTime": {"type": "string", "pattern": "^[0-9]{2}:[0-9]{2}$", "default": "09:00"},
        "timeZone": {"type": "string", "default": "UTC", "description": "An IANA name."},
        "weekdays": {
            "type": "array",
            "items": {"enum": list(WEEKDAYS)},
            "default": ["MO", "TU", "WE", "TH", "FR"],
        },
        "lessonsPerDay": {"type": "integer", "minimum": 1, "maximum": 12, "default": 1},
    },
}
CURRICULUM: dict[str, Any] = {
    "type": "object",
    "required": ["title", "modules"],
    "additionalProperties": False,
    "properties": {
        "title": _TITLE,
        "courseId": {"type": ["string", "null"], "minLength": 1, "maxLength": 128},
        "locale": {"type": ["string", "null"], "description": "A language tag.", "default": "en"},
        "modules": {
            "type": "array",
            "items": _MODULE,
            "minItems": 1,
            "maxItems": MAX_MODULES,
        },
        "preferences": _PREFERENCES,
    },
}
WORKFLOW: dict[str, Any] = {
    "type": "object",
    "required": ["workflowId", "status", "title", "modules", "preferences"],
    "properties": {
        "workflowId": {"type": "string"},
        "status": {"type": "string"},
        **CURRICULUM["properties"],
    },
}
LESSON: dict[str, Any] = {
    "type": "object",
    "required": ["id", "number", "title", "durationMinutes", "outcomes", "written", "gaps"],
    "properties": {
        "id": {"type": "string"},
        "number": {"type": "string", "description": "Module and lesson as people count: 2.1."},
        "order": {"type": "integer"},
        "week": {"type": "integer"},
        "title": {"type": "string"},
        "durationMinutes": {"type": "integer"},
        "deliveryMode": {"type": "string"},
        "outcomes": {"type": "array", "items": {"type": "object"}},
        "written": {"type": "boolean"},
        "generator": {"type": ["string", "null"], "description": "rule-based, or the model."},
        "edited": {"type": "boolean"},
        "revision": {"type": "integer"},
        "gaps": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["code", "message"],
                "properties": {"code": {"type": "string"}, "message": {"type": "string"}},
            },
        },
        "activities": {"type": "array", "items": {"type": "object"}},
        "assessments": {"type": "array", "items": {"type": "object"}},
        "provenance": {"type": "object"},
    },
}
PLAN: dict[str, Any] = {
    "type": "object",
    "required": ["workflowId", "schemaVersion", "title", "status", "totals", "modules", "gaps"],
    "properties": {
        "workflowId": {"type": "string"},
        "schemaVersion": {"type": "integer"},
        "title": {"type": "string"},
        "courseId": {"type": ["string", "null"]},
        "locale": {"type": "string"},
        "status": {"type": "string"},
        "generator": {"type": ["string", "null"]},
        "totals": {"type": "object"},
        "modules": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["id", "title", "contactHours", "lessons"],
                "properties": {"lessons": {"type": "array", "items": LESSON}},
            },
        },
        "coverage": {"type": "array", "items": {"type": "object"}},
        "gaps": {"type": "array", "items": {"type": "object"}},
        "provenance": {"type": "object"},
    },
}
