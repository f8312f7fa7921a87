"""The OpenAPI document: names, and the parts that FastAPI cannot describe.

FastAPI cannot describe the raw ingest route, the problem documents and the ways to sign in. The
schemas of ingest are msgspec's own for the types that are decoded and encoded; only descriptions
are added here.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from typing import Any

import msgspec
from fastapi.routing import APIRoute
from pydantic.alias_generators import to_camel

from homeroom.http.field_texts import FIELD_TEXTS, PARAMETER_TEXTS
from homeroom.http.ingest import INGEST_PATH, IngestAnswer
from homeroom.http.tag_texts import TAG_TEXTS
from homeroom.progress.event import SentBatch
from homeroom.web.identity import SESSION_COOKIE
from homeroom.web.problem import PROBLEM_MEDIA_TYPE

_REF_PREFIX = "#/components/schemas/"
_PAGE = re.compile(r"Page_(\w+)_")
_RENAMED = {
    "EventAnswer": "IngestResult",
    "SentBatch": "ProgressBatch",
    "SentEvent": "ProgressEvent",
    "SentQuiz": "ProgressQuiz",
}
"""msgspec types whose schemas had their names before the types were renamed."""
_SENT_AT = {
    "anyOf": [{"type": "string", "format": "date-time"}, {"type": "integer"}],
    "description": "The device's time as it sends this request, RFC 3339 or milliseconds since"
    " 1970. If it differs from the server's by more than 30 seconds, times of events are corrected"
    " by the difference.",
}
_BEACON_TOKEN = {
    "type": "string",
    "description": "The JWT, in a `text/plain` body only: `navigator.sendBeacon` sends no headers.",
}
_PRIORITY = {
    "type": "string",
    "enum": ["high", "normal", "low"],
    "description": "Which batches go first while more events wait than one commit takes, and which"
    " are refused last by a full queue. Without it `high` for a batch with a completion or a quiz"
    " attempt, `low` for heartbeats alone, else `normal`. A learner's token can lower it only.",
}
_UNUSED_FIELD = {"description": "For the sender's own use; not stored."}
_DESCRIPTIONS: Mapping[str, Mapping[str, str]] = {
    "SentBatch": {
        "": "Events in an object. A bare array of events is accepted, too.",
    },
    "SentQuiz": {
        "": "An attempt at a quiz.",
        "attemptId": "Id of the attempt; a later report of it takes its place.",
        "score": "Points; at most `maxScore`. 0 is a score.",
        "maxScore": "Points that can be reached.",
    },
    "SentEvent": {
        "": "An event of a player.",
        "id": "Unique for all time; the same id again is a duplicate. UUIDv7 is best.",
        "chapterId": "Not needed for `heartbeat`, `progress_reset`, `attempt_renewed`.",
        "progress": "Percent of the chapter.",
        "timeSpent": "Seconds since the player's last event: a delta, no running total. Rounded"
        " half up to whole seconds.",
        "timestamp": "RFC 3339, or milliseconds since 1970. Implausible ones are flagged.",
        "quiz": "Needed for `quiz_attempt`.",
        "metadata": "Any JSON of at most 16 KiB; `chapter_waived` needs its `reason`.",
    },
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
_ANSWER_EXAMPLE: dict[str, Any] = {
    "accepted": 1,
    "duplicate": 0,
    "conflict": 0,
    "quarantined": 0,
    "rejected": 0,
    "results": [],
}
_PROBLEM_SCHEMAS: Mapping[str, Any] = {
    "Problem": {
        "type": "object",
        "description": "An RFC 9457 problem document.",
        "required": ["type", "title", "status", "detail", "code"],
        "properties": {
            "type": {"type": "string", "description": "A URN that ends in the code."},
            "title": {"type": "string", "description": "The kind of problem."},
            "status": {"type": "integer", "description": "The HTTP status."},
            "detail": {"type": "string"},
            "code": {"type": "string", "description": "Stable; for programs."},
            "instance": {"type": ["string", "null"], "description": "The request's id."},
            "hint": {"type": "string", "description": "The fix."},
            "errors": {"type": "array", "items": {"$ref": f"{_REF_PREFIX}ProblemPart"}},
            "errorCount": {
                "type": "integer",
                "description": "Number of faults of a CSV file, of which `errors` has the first.",
            },
        },
    },
    "ProblemPart": {
        "type": "object",
        "description": "One fault of a request.",
        "required": ["detail", "code"],
        "properties": {
            "pointer": {"type": "string", "description": "JSON pointer into the body."},
            "in": {"type": "string", "enum": ["query", "path", "header", "cookie"]},
            "parameter": {"type": "string"},
            "line": {"type": "integer", "description": "Line of a CSV file, from 1."},
            "column": {"type": "string", "description": "Name of a column of a CSV file."},
            "detail": {"type": "string"},
            "code": {"type": "string"},
        },
    },
}


_ERRORS = {
    "401": "No valid API key or token.",
    "403": "The caller's role may not do this.",
    "404": "There is no such record, or it is private.",
    "409": "The record is not in a state that allows this.",
    "413": "The body is too large.",
    "422": "A parameter or the body is not valid; `errors` names each fault.",
    "4XX": "The request is rejected.",
    "503": "The database is unreachable; send the request again later.",
}
"""Errors of operations by status; ``_errors_of`` says which an operation has."""
_CRITERIA_TEXT = "Completion criteria: one of the kinds, or `all` or `any` of several."


def operation_id(route: APIRoute) -> str:
    """Return the id of a route's operation: its function's name in camelCase."""
    return to_camel(route.name)


def schema_name(key: str) -> str:
    """Return the name of a schema: ``Page_CourseView_`` is ``CoursePage``.

    The suffix ``View`` tells a response from the domain type of the same name, which clients do not
    know; FastAPI's prefix of a module path is dropped too.
    """
    name = key.rpartition("__")[2] if key.count("__") > 1 else key
    if page := _PAGE.fullmatch(name):
        return f"{schema_name(page[1])}Page"
    return name.removesuffix("View") or name


def problem_response_schema(description: str) -> dict[str, Any]:
    """Return a response whose body is a problem document."""
    schema = {"$ref": f"{_REF_PREFIX}Problem"}
    return {"description": description, "content": {PROBLEM_MEDIA_TYPE: {"schema": schema}}}


def complete_document(
    document: dict[str, Any], ingest_paths: Mapping[str, Any], ingest_schemas: Mapping[str, Any]
) -> dict[str, Any]:
    """Return FastAPI's document with new names, ingest, problems and sign-in.

    Schemas that would have the same name keep their own; ``tests/docs/test_openapi_names.py`` fails
    then.
    """
    document = _rename_schemas(document)
    document["paths"].update(ingest_paths)
    components = document.setdefault("components", {})
    schemas = components.setdefault("schemas", {})
    for name, schema in {**_PROBLEM_SCHEMAS, **ingest_schemas}.items():
        schemas.setdefault(name, schema)  # a shared enumeration is there already
    components["securitySchemes"] = {
        "bearer": {
            "type": "http",
            "scheme": "bearer",
            "description": "An API key (`hr_...`) or a JWT.",
        },
        "session": {
            "type": "apiKey",
            "in": "cookie",
            "name": SESSION_COOKIE,
            "description": "The cookie of a sign-in in a browser.",
        },
    }
    document["security"] = [{"bearer": []}, {"session": []}]
    document["servers"] = [{"url": "/", "description": "This server."}]
    document.setdefault("info", {})["license"] = {"name": "Apache-2.0", "identifier": "Apache-2.0"}
    document["info"]["contact"] = {"name": "The operator of this server"}
    document["tags"] = [{"name": name, "description": text} for name, text in TAG_TEXTS.items()]
    _extract_criteria(document)
    for path, item in document["paths"].items():
        for operation in item.values():
            _complete_operation(path, operation)
    for name in ("HTTPValidationError", "ValidationError"):  # FastAPI's, in place of problems
        schemas.pop(name, None)
    for name, schema in schemas.items():
        if name.endswith("Page") and not schema.get("description"):
            schema["description"] = "A page of a list."
        _complete_schema(schema)
    return document


def _complete_operation(path: str, operation: dict[str, Any]) -> None:
    """Describe the parameters of an operation, and its errors by status."""
    parameters = [
        each for each in operation.get("parameters", []) if each["name"] != "authorization"
    ]  # it is a security scheme
    for each in parameters:
        text = PARAMETER_TEXTS.get(each["name"])
        each.setdefault("description", each["schema"].pop("description", None) or text or "")
        each["schema"].pop("title", None)
        each["schema"].pop("description", None)
    operation["parameters"] = parameters
    if not parameters:
        del operation["parameters"]
    _make_null_body_optional(operation)
    for response in operation["responses"].values():
        for content in response.get("content", {}).values():
            content.get("schema", {}).pop("title", None)
    for status in _errors_of(path, operation):
        operation["responses"][status] = operation["responses"].get(status) or (
            problem_response_schema(_ERRORS[status])
        )
    if operation["responses"].get("422", {}).get("description") == "Validation Error":
        operation["responses"]["422"] = problem_response_schema(_ERRORS["422"])


def _make_null_body_optional(operation: dict[str, Any]) -> None:
    """Document a body that may be null as an optional one."""
    body = operation.get("requestBody", {})
    for content in body.get("content", {}).values():
        kinds = content.get("schema", {}).get("anyOf", [])
        if len(kinds) == 2 and {"type": "null"} in kinds:
            [content["schema"]] = [each for each in kinds if each != {"type": "null"}]
            body["required"] = False


def _errors_of(path: str, operation: Mapping[str, Any]) -> list[str]:
    """Return the statuses of the errors that an operation may answer with."""
    statuses = []
    is_public = operation.get("security") == []
    statuses += [] if is_public else ["401", "403"]
    if "{" in path:
        statuses.append("404")
    if "requestBody" in operation:
        statuses.append("413")
    if "requestBody" in operation or "parameters" in operation:
        statuses.append("422")
    if path.startswith("/api/") or path == "/readyz":
        statuses.append("503")
    return [*statuses, "4XX"]  # such as 400 for a body that is no JSON, 409, 412 and 429


def _complete_schema(schema: dict[str, Any]) -> None:
    """Describe the fields of a schema, and drop titles that repeat their names."""
    for name, field in schema.get("properties", {}).items():
        field.pop("title", None)
        if isinstance(field.get("default"), dict):  # generators cannot write an object's default
            del field["default"]
        if not field.get("description") and name in FIELD_TEXTS:
            field["description"] = FIELD_TEXTS[name]
        _complete_schema(field)
    for part in ("anyOf", "oneOf", "allOf"):
        for each in schema.get(part, []):
            _complete_schema(each)
    if isinstance(items := schema.get("items"), dict):
        _complete_schema(items)


def _extract_criteria(document: dict[str, Any]) -> None:
    """Put the union of the kinds of criteria into a component of its own.

    pydantic repeats it at each place; generators would make a type of each.
    """
    schemas = document["components"]["schemas"]
    found: list[dict[str, Any]] = []

    def replace(value: Any) -> Any:
        if isinstance(value, list):
            return [replace(each) for each in value]
        if not isinstance(value, dict):
            return value
        kinds = [each.get("$ref", "") for each in value.get("oneOf", []) if isinstance(each, dict)]
        if f"{_REF_PREFIX}AllItemsCriterion" in kinds:
            found.append({"oneOf": value["oneOf"]})
            return {"$ref": f"{_REF_PREFIX}Criteria"}
        return {key: replace(part) for key, part in value.items()}

    document["components"]["schemas"] = replaced = replace(schemas)
    if found:
        replaced["Criteria"] = {"description": _CRITERIA_TEXT, **found[0]}
    schemas.clear()
    schemas.update(replaced)
    document["components"]["schemas"] = schemas


def _rename_schemas(document: dict[str, Any]) -> dict[str, Any]:
    schemas = document.get("components", {}).get("schemas", {})
    taken = Counter(map(schema_name, schemas))
    names = {key: name if taken[name := schema_name(key)] == 1 else key for key in schemas}
    renamed: dict[str, Any] = _rename_refs(document, names)
    if schemas:
        renamed["components"]["schemas"] = {
            names[key]: {**schema, "title": names[key]} if "title" in schema else schema
            for key, schema in renamed["components"]["schemas"].items()
        }
    return renamed


def _rename_refs(value: Any, names: Mapping[str, str]) -> Any:
    """Return a copy of a JSON value in which references have the new names."""
    if isinstance(value, dict):
        return {
            key: _renamed_ref(part, names) if key == "$ref" else _rename_refs(part, names)
            for key, part in value.items()
        }
    if isinstance(value, list):
        return [_rename_refs(part, names) for part in value]
    return value


def _renamed_ref(ref: str, names: Mapping[str, str]) -> str:
    key = ref.removeprefix(_REF_PREFIX)
    return f"{_REF_PREFIX}{names.get(key, key)}"


def _ingest_schemas() -> dict[str, Any]:
    _, schemas = msgspec.json.schema_components(
        [SentBatch, IngestAnswer], ref_template=f"{_REF_PREFIX}{{name}}"
    )
    for part in schemas.values():
        for described in part.get("properties", {}).values():
            _drop_integers_beside_numbers(described)
    for key, texts in _DESCRIPTIONS.items():
        schema = schemas[key]
        for field, text in texts.items():
            described = schema["properties"][field] if field else schema
            described["description"] = text
    for schema in schemas.values():  # unknown fields are ignored, and named in the answer
        schema.pop("additionalProperties", None)
    batch = schemas["SentBatch"]
    for field in ("batchId", "clientId"):
        batch["properties"][field] = _UNUSED_FIELD
    batch["properties"]["sentAt"] = _SENT_AT
    batch["properties"]["priority"] = _PRIORITY
    batch["properties"]["token"] = _BEACON_TOKEN
    for key, schema in schemas.items():
        if "title" in schema:
            schema["title"] = _RENAMED.get(key, key)
    renamed: dict[str, Any] = _rename_refs(
        {_RENAMED.get(key, key): schema for key, schema in schemas.items()}, _RENAMED
    )
    return renamed


def _drop_integers_beside_numbers(schema: dict[str, Any]) -> None:
    """Drop integers beside numbers of the same bounds from alternatives."""
    alternatives = schema.get("anyOf", [])
    numbers = [{**each, "type": "integer"} for each in alternatives if each.get("type") == "number"]
    if numbers:
        schema["anyOf"] = [each for each in alternatives if each not in numbers]


def _problem_response(description: str, *, retry: bool = False) -> dict[str, Any]:
    response = problem_response_schema(description)
    if retry:
        seconds = {"schema": {"type": "integer", "minimum": 1}, "description": "Seconds."}
        response["headers"] = {"Retry-After": seconds}
    return response


INGEST_SCHEMAS: Mapping[str, Any] = _ingest_schemas()
INGEST_PATHS: Mapping[str, Any] = {
    INGEST_PATH: {
        "post": {
            "tags": ["Progress"],
            "operationId": "sendEvents",
            "summary": "Send Events",
            "description": (
                "Answers once every accepted event is durable. An invalid event never affects the "
                "others: each has its own result. Send the same events again after any error; "
                "each counts once.\n\nA page that is closing sends the same JSON as `text/plain` "
                "with its `token` in it, at most 64 KiB: see `docs/http.md`."
            ),
            "requestBody": {
                "required": True,
                "content": {
                    "application/json": {
                        "schema": {"$ref": f"{_REF_PREFIX}ProgressBatch"},
                        "example": _EXAMPLE,
                    },
                },
            },
            "responses": {
                "200": {
                    "description": "The number of events by status, and the results that differ.",
                    "headers": {
                        "Homeroom-Rejected": {
                            "schema": {"type": "integer", "minimum": 1},
                            "description": "Number of rejected events; absent if there are none.",
                        }
                    },
                    "content": {
                        "application/json": {
                            "schema": {"$ref": f"{_REF_PREFIX}IngestAnswer"},
                            "example": _ANSWER_EXAMPLE,
                        }
                    },
                },
                "400": _problem_response("The body is not JSON."),
                "401": _problem_response("No valid API key or token."),
                "403": _problem_response("This role may send no progress at all."),
                "413": _problem_response(
                    "The body is larger than 1 MiB, or has more than 1,000 events."
                ),
                "415": _problem_response("The body is not application/json."),
                "422": _problem_response("There is no event list in the body."),
                "429": _problem_response(
                    "Too many events wait; send them again later.", retry=True
                ),
                "503": _problem_response(
                    "The database is unreachable; send them again later.", retry=True
                ),
            },
        }
    }
}
