"""Requests generated from the OpenAPI document never cause a server error."""

from __future__ import annotations

import base64
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis import Case, GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.schemas import APIOperation
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from tests.support.homeroom_process import ADMIN, server

pytestmark = [pytest.mark.service, pytest.mark.xdist_group("schemathesis")]
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]
TIMEOUT_SECONDS = 30
EXAMPLES = int(os.environ.get("SCHEMATHESIS_EXAMPLES", "40"))
ENDLESS = "/api/v1/events"
"""Server-sent events never end; test_operations_over_http reads them."""
COURSE = {
    "title": "Known",
    "units": [{"id": "u", "title": "U", "chapters": [{"id": "c", "title": "C"}]}],
}
EVENT = {
    "id": "known-event",
    "userId": "ada",
    "courseId": "known",
    "chapterId": "c",
    "eventType": "chapter_complete",
    "timestamp": "2026-11-22T09:00:00Z",
}

# The kept document is the server's own: tests/docs/test_the_openapi_document.py compares them.
schema = schemathesis.openapi.from_path(
    Path(__file__).resolve().parents[2] / "docs" / "openapi.json"
).exclude(path=ENDLESS)
OPERATIONS = [found.ok() for found in schema.get_all_operations()]


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    unreachable_partner = {
        "HOMEROOM_ANALYTICS_URL": "http://127.0.0.1:9",
        "HOMEROOM_WEBHOOK_SECRET": f"whsec_{base64.b64encode(bytes(32)).decode()}",
    }
    with server(tmp_path_factory.mktemp("schemathesis"), unreachable_partner) as running:
        yield running


@pytest.fixture(scope="module")
def known(url: str) -> dict[str, str]:
    """Complete a course, with a job and a dispatch; return ids by parameter name."""
    with httpx.Client(base_url=url, headers=ADMIN, trust_env=False) as client:
        client.put("/api/v1/courses/known", json=COURSE).raise_for_status()
        person = {"email": "ada@example.org", "givenName": "Ada", "familyName": "Okafor"}
        client.put("/api/v1/people/ada", json=person).raise_for_status()
        client.post("/api/progress/enhanced-update", json=[EVENT]).raise_for_status()

        def first(path: str) -> str:
            """Wait for the first item of a list; the worker creates some of them."""
            limit = time.monotonic() + TIMEOUT_SECONDS
            while time.monotonic() < limit:
                items = client.get(path).raise_for_status().json()["items"]
                if items:
                    return str(items[0]["id"])
            raise AssertionError(f"{path} stayed empty")

        return {
            "courseId": "known",
            "userId": "ada",
            "completionId": first("/api/v1/completions"),
            "job_id": first("/api/v1/jobs"),
            "jobId": first("/api/v1/jobs"),
            "dispatchId": first("/api/v1/dispatches"),
            "queue": "dispatch",
            "step": "analytics",
        }


def use_known_ids(case: Case, known: dict[str, str]) -> None:
    """Let about every second request name an existing record."""
    for part in (case.path_parameters, case.query):
        values: dict[str, Any] = part if isinstance(part, dict) else {}
        for name in values:
            if name == "name":
                known_as = "step" if "/steps/" in case.path else "queue"
            else:
                known_as = name
            if known_as in known and len(str(values[name])) % 2:
                values[name] = known[known_as]


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: str(operation.label))
def test_no_request_causes_a_server_error(
    operation: APIOperation[Any, Any, Any, Any], url: str, known: dict[str, str]
) -> None:
    cases = st.one_of(
        operation.as_strategy(generation_mode=GenerationMode.POSITIVE),
        operation.as_strategy(generation_mode=GenerationMode.NEGATIVE),
    )

    @given(case=cases)
    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        derandomize=True,  # the same requests on every machine, so that failures can be reproduced
        suppress_health_check=list(HealthCheck),
    )
    def send(case: Case) -> None:
        use_known_ids(case, known)
        case.call_and_validate(base_url=url, headers=ADMIN, checks=CHECKS, timeout=30)

    send()
