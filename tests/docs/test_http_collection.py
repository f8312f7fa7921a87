"""The requests of ``examples/homeroom.http``, sent to a server as an editor sends them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import NamedTuple

import httpx
import pytest
from tests.support.code_blocks import ROOT
from tests.support.homeroom_process import ADMIN_KEY, server

pytestmark = pytest.mark.service
COLLECTION = ROOT / "examples" / "homeroom.http"
VARIABLE = re.compile(r"^@(\w+) *= *(.*)$", re.MULTILINE)


class Request(NamedTuple):
    """A request of the collection."""

    title: str
    method: str
    url: str
    headers: dict[str, str]
    body: str


def requests(text: str, **values: str) -> Iterator[Request]:
    """Yield the requests of a file, with values in place of its variables."""
    variables = {**dict(VARIABLE.findall(text)), **values}
    for part in re.split(r"^###", text, flags=re.MULTILINE)[1:]:
        for name, value in variables.items():
            part = part.replace("{{" + name + "}}", value)
        head, _, body = part.partition("\n\n")
        title, line, *headers = head.splitlines()
        method, url = line.split()
        yield Request(
            title.strip(), method, url, dict(each.split(": ", 1) for each in headers), body.strip()
        )


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, httpx.Response]:
    """Send all requests in their order; return the answers by title."""
    text = COLLECTION.read_text(encoding="utf-8")
    with server(tmp_path_factory.mktemp("collection")) as url, httpx.Client(timeout=60) as http:
        return {
            each.title: http.request(
                each.method, each.url, headers=each.headers, content=each.body or None
            )
            for each in requests(text, url=url, key=ADMIN_KEY)
        }


def test_every_request_succeeds(answers: dict[str, httpx.Response]) -> None:
    assert len(answers) == COLLECTION.read_text(encoding="utf-8").count("###")
    for title, answer in answers.items():
        assert answer.is_success, f"{title}: {answer.status_code} {answer.text}"


def test_the_requests_complete_the_course_and_show_it(answers: dict[str, httpx.Response]) -> None:
    before = answers["Why is the course not complete? (unmetCriteria)"].json()
    assert [each["chapterIds"] for each in before["unmetCriteria"]] == [["test"]]
    [completion] = answers["The completion, with its steps"].json()["items"]
    assert (completion["userId"], completion["courseId"]) == ("u-1042", "fire-safety")
    kinds = {each["kind"] for each in answers["Follow changes from the beginning"].json()["items"]}
    assert {"completions", "enrolments"} <= kinds
    assert len(answers["What an event did: the history of a course"].json()["items"]) == 3


def test_the_file_holds_no_key() -> None:
    """The key of the file is a place to fill, and its paths are those of the document."""
    text = COLLECTION.read_text(encoding="utf-8")
    assert dict(VARIABLE.findall(text))["key"] == "hr_paste-your-key-here"
    document = json.loads((ROOT / "docs" / "openapi.json").read_text(encoding="utf-8"))
    known = [re.sub(r"\{\w+\}", "[^/]+", path) for path in document["paths"]]
    for each in requests(text, url=""):
        path = each.url.split("?")[0]
        assert any(re.fullmatch(pattern, path) for pattern in known), path
