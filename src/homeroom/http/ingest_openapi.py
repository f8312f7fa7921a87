"""Describe the raw ingest route for the OpenAPI document, which FastAPI cannot (pure)."""

from __future__ import annotations

from typing import Any

_ID: dict[str, Any] = {"type": "string", "minLength": 1, "maxLength": 128}
_COUNT: dict[str, Any] = {"type": "integer", "minimum": 0}
_STATUSES = ("accepted", "duplicate", "conflict", "quarantined", "rejected")
_EVENT_TYPES = (
    "chapter_progress",
    "chapter_complete",
    "quiz_attempt",
    "heartbeat",
    "progress_reset",
    "chapter_waived",
    "attempt_renewed",
)
_EVENTS: dict[str, Any] = {
    "type": "array",
    "minItems": 1,
    "maxItems": 1_000,
    "items": {"$ref": "#/components/schemas/ProgressEvent"},
}
_EXAMPLE: dict[str, Any] = {
    "events": [
        {
            "id": "019ab6a0-7c1e-7d52-8b07-3a1d5f0c9e11",
            "userId": "ada",
            "courseId": "fire-safety",
            "chapterId": "exits",
            "eventType": "chapter_progress",
            "progress": 40,
            "timeSpent": 30,
            "timestamp": "2026-11-22T09:00:00Z",
        }
    ]
}

INGEST_SCHEMAS: dict[str, Any] = {
    "ProgressQuiz": {
        "type": "object",
        "required": ["attemptId", "score", "maxScore"],
        "properties": {
            "attemptId": _ID,
            "score": {
                "type": "number",
                "minimum": 0,
                "maximum": 1e9,
                "description": "Points; at most `maxScore`. 0 is a score.",
            },
            "maxScore": {"type": "number", "exclusiveMinimum": 0, "maximum": 1e9},
        },
    },
    "ProgressEvent": {
        "type": "object",
        "required": ["id", "userId", "courseId", "eventType", "timestamp"],
        "properties": {
            "id": {
                **_ID,
                "description": "Unique for good; the same id again is a duplicate. UUIDv7 is best.",
            },
            "userId": _ID,
            "courseId": _ID,
            "chapterId": {
                "anyOf": [_ID, {"type": "null"}],
                "description": "Not needed for `heartbeat`, `progress_reset`, `attempt_renewed`.",
            },
            "eventType": {"enum": list(_EVENT_TYPES)},
            "progress": {
                "type": ["number", "null"],
                "minimum": 0,
                "maximum": 100,
                "description": "Percent of the chapter.",
            },
            "timeSpent": {
                "type": ["integer", "null"],
                "minimum": 0,
                "maximum": 86_400,
                "description": "Seconds since the player's last event: a delta, no running total.",
            },
            "timestamp": {
                "anyOf": [{"type": "string", "format": "date-time"}, {"type": "number"}],
                "description": "RFC 3339, or milliseconds since 1970. Odd ones are flagged.",
            },
            "quiz": {
                "anyOf": [{"$ref": "#/components/schemas/ProgressQuiz"}, {"type": "null"}],
                "description": "Needed for `quiz_attempt`.",
            },
            "metadata": {
                "description": "Any JSON of at most 16 KiB; `chapter_waived` needs its `reason`."
            },
        },
    },
    "ProgressBatch": {
        "anyOf": [
            {
                "type": "object",
                "required": ["events"],
                "properties": {
                    "events": _EVENTS,
                    "batchId": {"description": "For the sender's own use."},
                    "clientId": {"description": "For the sender's own use."},
                    "sentAt": {"description": "For the sender's own use."},
                },
            },
            _EVENTS,
        ],
    },
    "IngestResult": {
        "type": "object",
        "required": ["id", "status"],
        "properties": {
            "id": {"type": ["string", "null"], "description": "Null where it cannot be read."},
            "status": {"enum": list(_STATUSES)},
            "code": {"type": "string", "description": "Stable; for programs."},
            "message": {"type": "string"},
        },
    },
    "IngestAnswer": {
        "type": "object",
        "required": [*_STATUSES, "results"],
        "properties": {
            **dict.fromkeys(_STATUSES, _COUNT),
            "results": {
                "type": "array",
                "items": {"$ref": "#/components/schemas/IngestResult"},
                "description": "Events that were not plainly accepted; all others were.",
            },
        },
    },
}


def _problem(description: str, *, retry: bool = False) -> dict[str, Any]:
    answer: dict[str, Any] = {
        "description": description,
        "content": {
            "application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}
        },
    }
    if retry:
        seconds = {"schema": {"type": "integer", "minimum": 1}, "description": "Seconds."}
        answer["headers"] = {"Retry-After": seconds}
    return answer


INGEST_PATHS: dict[str, Any] = {
    "/api/progress/enhanced-update": {
        "post": {
            "tags": ["Progress"],
            "operationId": "ingest_progress",
            "summary": "Take progress events in",
            "description": (
                "Answers once everything accepted is durable. One bad event never fails its "
                "neighbours: each has its own result. Send the same events again after any error; "
                "each counts once."
            ),
            "requestBody": {
                "required": True,
                "content": {
                    "application/json": {
                        "schema": {"$ref": "#/components/schemas/ProgressBatch"},
                        "example": _EXAMPLE,
                    }
                },
            },
            "responses": {
                "200": {
                    "description": "What became of the events",
                    "content": {
                        "application/json": {
                            "schema": {"$ref": "#/components/schemas/IngestAnswer"}
                        }
                    },
                },
                "400": _problem("The body is not JSON."),
                "401": _problem("No valid API key or token."),
                "403": _problem("This role may send no progress at all."),
                "413": _problem("The body is larger than 1 MiB, or has more than 1,000 events."),
                "415": _problem("The body is not application/json."),
                "422": _problem("There is no event list in the body."),
                "429": _problem("Too many events wait; send them again later.", retry=True),
                "503": _problem("The database is away; send them again later.", retry=True),
            },
        }
    }
}
