"""Every route below ``/api/`` refuses query parameters that it does not know."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.support.homeroom_process import ADMIN, server

pytestmark = [pytest.mark.service, pytest.mark.xdist_group("query_parameters")]
DOCUMENT = json.loads(
    (Path(__file__).resolve().parents[2] / "docs" / "openapi.json").read_text("utf-8")
)
OPERATIONS = [
    (method, path, operation)
    for path, operations in DOCUMENT["paths"].items()
    for method, operation in operations.items()
]
UNKNOWN = "notAParameter"


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    with (
        server(tmp_path_factory.mktemp("parameters")) as url,
        httpx.Client(base_url=url, headers=ADMIN, trust_env=False, timeout=30) as found,
    ):
        yield found


def declared(operation: dict[str, Any]) -> list[str]:
    return [each["name"] for each in operation.get("parameters", ()) if each["in"] == "query"]


def send(client: httpx.Client, method: str, path: str, query: str) -> httpx.Response:
    address = re.sub(r"\{\w+\}", "x", path)
    body = {"json": {}} if method in {"post", "put", "patch"} else {}
    return client.request(method, f"{address}?{query}", **body)  # type: ignore[arg-type]


def test_every_route_of_the_api_refuses_an_unknown_parameter(client: httpx.Client) -> None:
    checked = 0
    for method, path, operation in OPERATIONS:
        if not path.startswith("/api/"):
            continue
        answer = send(client, method, path, f"{UNKNOWN}=secret-value")
        assert answer.status_code == 422, (method, path, answer.text)
        problem = answer.json()
        assert problem["code"] == "invalid", (method, path)
        assert problem["errors"][0]["code"] == "unknown_parameter", (method, path, problem)
        assert problem["errors"][0]["parameter"] == UNKNOWN
        assert problem["knownParameters"] == declared(operation), (method, path)
        assert "secret-value" not in answer.text
        checked += 1
    assert checked > 80


def test_a_path_or_query_that_is_not_utf_8_is_refused(client: httpx.Client) -> None:
    for path in (
        "/api/v1/completions?userId=%ff",
        "/api/v1/people/a%ffb",
        "/api/v1/people/%EF%BF%BD",
    ):
        assert client.get(path).status_code == 400, path
    assert client.get("/api/v1/completions?userId=%C3%BC").status_code == 200


def test_no_parameter_may_be_given_twice_or_left_empty(client: httpx.Client) -> None:
    checked = 0
    for method, path, operation in OPERATIONS:
        for name in declared(operation) if path.startswith("/api/") else ():
            twice = send(client, method, path, f"{name}=1&{name}=2")
            assert twice.status_code == 422, (method, path, name, twice.text)
            assert twice.json()["errors"][0] == {
                "in": "query",
                "parameter": name,
                "detail": "it is repeated",
                "code": "repeated",
            }
            empty = send(client, method, path, f"{name}=")
            assert empty.status_code == 422, (method, path, name, empty.text)
            checked += 1
    assert checked > 60


@pytest.mark.parametrize(
    ("query", "hint"),
    [
        ("userid=ada", "userId"),
        ("user_id=ada", "userId"),
        ("courseID=x", "courseId"),
        ("sinc=2026-11-22T09:00:00Z", "since"),
        ("zzz=1", None),
    ],
)
def test_the_nearest_known_name_is_a_hint(
    client: httpx.Client, query: str, hint: str | None
) -> None:
    problem = client.get(f"/api/v1/completions?{query}").json()
    assert problem["status"] == 422
    assert "userId, courseId" in problem["detail"]
    if hint is None:
        assert "hint" not in problem
    else:
        assert hint in problem["hint"]


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/metrics", "/openapi.json", "/docs"])
def test_pages_and_probes_ignore_what_others_add_to_a_link(client: httpx.Client, path: str) -> None:
    assert client.get(f"{path}?utm_source=mail").status_code == 200


@pytest.mark.parametrize("path", ["/u/token", "/credentials/none"])
def test_public_links_ignore_what_others_add_to_them(client: httpx.Client, path: str) -> None:
    plain, decorated = client.get(path), client.get(f"{path}?utm_source=mail")
    assert decorated.status_code == plain.status_code != 422


def test_a_caller_without_a_token_learns_nothing_new(client: httpx.Client) -> None:
    anonymous = {"Authorization": ""}
    assert client.get("/api/v1/completions", headers=anonymous).status_code == 401
    answer = client.post(f"/api/progress/enhanced-update?{UNKNOWN}=1", json=[], headers=anonymous)
    assert answer.status_code == 401
