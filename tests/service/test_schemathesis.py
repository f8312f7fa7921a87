"""Requests generated from the OpenAPI document pass all checks of Schemathesis but those named."""

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
from schemathesis import Case, CheckContext, GenerationMode, Response
from schemathesis.checks import CHECKS, CheckFunction, load_all_checks
from schemathesis.core.parameters import ParameterLocation
from schemathesis.schemas import APIOperation
from tests.support.homeroom_process import ADMIN, server

pytestmark = [pytest.mark.service, pytest.mark.xdist_group("schemathesis")]
TIMEOUT_SECONDS = 30
EXAMPLES = int(os.environ.get("SCHEMATHESIS_EXAMPLES", "30"))
INGEST = "POST /api/progress/enhanced-update"
EXCLUDED_EVERYWHERE = {
    "positive_data_acceptance": "JSON Schema cannot say every rule: a cursor is one of an earlier"
    " answer, an id has characters that can be seen, a week exists, a step is one of the course's."
    " A check of our own holds that each such refusal says its reason.",
}
EXCLUDED = {
    (INGEST, "negative_data_rejection"): "An event that breaks the schema is rejected by itself,"
    " in a 200: one bad event never fails its neighbours.",
}
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


def mutations_are_refused(ctx: CheckContext, response: Response, case: Case) -> bool | None:
    """Run ``negative_data_rejection``, but for requests of which a header was mutated.

    The test sends its own key in place of a generated ``Authorization``, and the check takes the
    request for a broken one all the same.
    """
    if case.meta is None or case.meta.is_negative_at(ParameterLocation.HEADER):
        return None
    check: CheckFunction = CHECKS.get_one("negative_data_rejection")
    return check(ctx, response, case)


def refusals_say_why(ctx: CheckContext, response: Response, case: Case) -> None:
    """Fail for a 4xx without a problem document that has a code and a sentence; pages have text."""
    if not 400 <= response.status_code < 500 or case.method == "HEAD":
        return
    if "text/html" in "".join(response.headers["content-type"]):
        assert response.text.strip()
        return
    problem = response.json()
    assert problem["code"]
    assert problem["detail"].strip()


def checks_of(operation: APIOperation[Any, Any, Any, Any]) -> list[CheckFunction]:
    """Return all checks of Schemathesis for an operation, and our own."""
    load_all_checks()
    chosen = [
        name
        for name in CHECKS.get_all_names()
        if name not in EXCLUDED_EVERYWHERE and (operation.label, name) not in EXCLUDED
    ]
    ours = {"negative_data_rejection": mutations_are_refused}
    return [*(ours.get(name) or CHECKS.get_one(name) for name in chosen), refusals_say_why]


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
def test_every_answer_passes_all_checks(
    operation: APIOperation[Any, Any, Any, Any], url: str, known: dict[str, str]
) -> None:
    cases = st.one_of(
        operation.as_strategy(generation_mode=GenerationMode.POSITIVE),
        operation.as_strategy(generation_mode=GenerationMode.NEGATIVE),
    )

    checks = checks_of(operation)

    @given(case=cases)
    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        derandomize=True,  # the same requests on every machine, so that failures can be reproduced
        suppress_health_check=list(HealthCheck),
    )
    def send(case: Case) -> None:
        use_known_ids(case, known)
        case.call_and_validate(base_url=url, headers=ADMIN, checks=checks, timeout=30)

    send()


def test_what_is_excluded_exists() -> None:
    load_all_checks()
    names, labels = set(CHECKS.get_all_names()), {str(each.label) for each in OPERATIONS}
    assert EXCLUDED_EVERYWHERE.keys() | {name for _, name in EXCLUDED} <= names
    assert {label for label, _ in EXCLUDED} <= labels
    assert len(names) >= 12, "the checks are all loaded"
