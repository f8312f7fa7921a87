"""Names in the OpenAPI document, from which client generators make function and type names."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from homeroom.http.openapi import INGEST_SCHEMAS, complete_document, schema_name
from homeroom.progress.event import EventType, SentEvent, SentQuiz

ROOT = Path(__file__).parents[2]
DOCUMENT: dict[str, Any] = json.loads((ROOT / "docs" / "openapi.json").read_text())
OPERATIONS = {
    f"{method.upper()} {path}": operation["operationId"]
    for path, item in DOCUMENT["paths"].items()
    for method, operation in item.items()
}
_VERBS = """
    acknowledge act add archive award cancel clean close create delete download edit end erase
    export fill get import lift list mark open pause preview promote publish put receive
    regenerate reissue replay resend resume retry revoke run search send snooze start stream
    suspend test unarchive unsubscribe update
"""
VERBS = frozenset(_VERBS.split())


def test_operation_ids_are_unique() -> None:
    assert len(set(OPERATIONS.values())) == len(OPERATIONS)


def test_operation_ids_are_words_that_begin_with_a_verb() -> None:
    odd = {
        route: name
        for route, name in OPERATIONS.items()
        if not re.fullmatch(r"[a-z]+([A-Z][a-z]+)*", name)
        or re.match(r"[a-z]+", name)[0] not in VERBS  # type: ignore[index]
    }
    assert odd == {}


def test_schemas_are_nouns_without_module_paths_and_suffixes() -> None:
    schemas = DOCUMENT["components"]["schemas"]
    odd = [name for name in schemas if not re.fullmatch(r"([A-Z][a-z0-9]+)+", name)]
    assert odd == []
    assert [name for name in schemas if name.endswith("View")] == []
    titles = {name: schema["title"] for name, schema in schemas.items() if "title" in schema}
    assert titles == {name: name for name in titles}


def test_every_reference_has_its_schema() -> None:
    references = set(re.findall(r'"#/components/schemas/([^"]*)"', json.dumps(DOCUMENT)))
    assert references == DOCUMENT["components"]["schemas"].keys()


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ("CourseView", "Course"),
        ("Page_CourseView_", "CoursePage"),
        ("InboxPage", "InboxPage"),
        ("homeroom__completion__routes__ChapterView", "Chapter"),
    ],
)
def test_a_schema_is_named_after_its_class(key: str, expected: str) -> None:
    assert schema_name(key) == expected


def test_two_schemas_never_share_a_name() -> None:
    schemas = {"Course": {}, "CourseView": {}}
    document = {"paths": {}, "components": {"schemas": schemas}}
    completed = complete_document(document, {}, {})
    assert {"Course", "CourseView"} <= completed["components"]["schemas"].keys()


def test_the_schemas_of_ingest_are_those_of_the_decoded_types() -> None:
    event, quiz = INGEST_SCHEMAS["ProgressEvent"], INGEST_SCHEMAS["ProgressQuiz"]
    assert list(event["properties"]) == list(SentEvent.__struct_encode_fields__)
    assert list(quiz["properties"]) == list(SentQuiz.__struct_encode_fields__)
    assert event["required"] == ["id", "userId", "courseId", "eventType", "timestamp"]
    assert set(DOCUMENT["components"]["schemas"]["EventType"]["enum"]) == set(EventType)
