"""The Python client: its retry table, its types, its package, and both clients on a real server."""

from __future__ import annotations

import asyncio
import dataclasses
import inspect
import json
import re
import sqlite3
import subprocess
import sys
import typing
import zipfile
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from functools import partial
from pathlib import Path
from typing import Any
from uuid import RFC_4122, UUID

import httpx
import pytest
from homeroom_client import (
    AccessRefused,
    ApiError,
    AsyncHomeroom,
    CursorGone,
    Homeroom,
    HomeroomError,
    InvalidEvent,
    ProgressEvent,
    Quiz,
    Unavailable,
    UnexpectedAnswer,
    async_client,
    client,
    connection,
    events,
    models,
    operations,
    retry,
)
from homeroom_client.decoding import camel_case, decode
from packaging.requirements import Requirement
from tests.support.condition import PATIENCE_SECONDS, until
from tests.support.homeroom_process import ADMIN_KEY, clean_environment, server

from homeroom.changes.position import Position, encode_cursor

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "clients" / "python"
EXAMPLE = ROOT / "examples" / "python-platform"
URL = "https://homeroom.example.org"
COURSE = {
    "title": "Fire safety",
    "units": [{"id": "u", "title": "U", "chapters": [{"id": "exits", "title": "Exits"}]}],
}
Handler = Callable[[httpx.Request], httpx.Response]


class Caller:
    """Calls the same method of the blocking or the asynchronous client."""

    def __init__(self, kind: str, url: str = URL, token: Any = "hr_key", **options: Any) -> None:
        self._kind, self._url, self._token, self._options = kind, url, token, options

    def __call__(self, name: str, *words: Any, **named: Any) -> Any:
        """Return the result of a method, an iterator as a list."""
        handler = self._options.pop("handler", None)
        transport = handler and httpx.MockTransport(handler)
        if self._kind == "blocking":
            http = transport and httpx.Client(transport=transport)
            with Homeroom(self._url, self._token, http_client=http, **self._options) as homeroom:
                result = getattr(homeroom, name)(*words, **named)
                return list(result) if inspect.isgenerator(result) else result

        async def call() -> Any:
            http = transport and httpx.AsyncClient(transport=transport)
            options = {**self._options, "http_client": http}
            async with AsyncHomeroom(self._url, self._token, **options) as homeroom:
                result = getattr(homeroom, name)(*words, **named)
                if inspect.isasyncgen(result):
                    return [each async for each in result]
                return await result

        return asyncio.run(call())


@pytest.fixture(params=["blocking", "asyncio"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def no_waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Record the waits of both clients instead of waiting."""
    waits: list[float] = []

    async def sleep(seconds: float) -> None:
        waits.append(seconds)

    monkeypatch.setattr(client.time, "sleep", waits.append)
    monkeypatch.setattr(async_client.asyncio, "sleep", sleep)
    monkeypatch.setattr(operations, "backoff_seconds", lambda n: retry.backoff_seconds(n, one))
    return waits


def one() -> float:
    return 1.0


def event(number: int = 1, **fields: Any) -> ProgressEvent:
    given = {"user_id": "ada", "course_id": "c", "event_type": "heartbeat", "id": f"e{number}"}
    return ProgressEvent(**{**given, **fields})


def delivered(request: httpx.Request, *results: dict[str, Any]) -> httpx.Response:
    return httpx.Response(200, json={"results": list(results)})


def sent_ids(request: httpx.Request) -> list[str]:
    return [each["id"] for each in json.loads(request.content)["events"]]


class Script:
    """Answers requests in order; the last answer is repeated."""

    def __init__(self, *answers: int | Exception | httpx.Response | Handler) -> None:
        self.answers, self.requests = list(answers), list[httpx.Request]()

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        if isinstance(answer, int):
            return httpx.Response(answer, json={"code": "scripted", "detail": "Scripted."})
        return answer(request) if callable(answer) else answer


# --- The retry table -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fault",
    [
        *(404, 405, 407, 408, 421, 425, 429, 500, 502, 503, 504, 301),
        httpx.ConnectError("refused"),
        httpx.ReadTimeout("silent"),
        httpx.RemoteProtocolError("cut"),
        lambda _: httpx.Response(200, text="<h1>Sign in</h1>"),
    ],
    ids=lambda each: "foreign 200" if callable(each) else repr(each),
)
def test_events_are_sent_again_after_faults_that_say_nothing_about_them(
    kind: str, fault: Any, no_waits: list[float]
) -> None:
    script = Script(fault, fault, delivered)
    report = Caller(kind, handler=script)("send_events", [event()])
    assert (report.sent, report.results) == (1, ())
    bodies = [json.loads(each.content) for each in script.requests]
    assert [each["events"] for each in bodies] == [bodies[0]["events"]] * 3
    assert [each["sentAt"] for each in bodies] == sorted({each["sentAt"] for each in bodies})
    assert no_waits == [1, 2]


def test_a_priority_is_in_every_batch_and_an_unknown_one_is_sent_nowhere(kind: str) -> None:
    script = Script(delivered)
    given = [event(number) for number in range(1001)]
    assert Caller(kind, handler=script)("send_events", given, priority="low").sent == 1001
    assert [json.loads(each.content)["priority"] for each in script.requests] == ["low", "low"]
    with pytest.raises(ValueError, match="priority"):
        Caller(kind, handler=script)("send_events", given, priority="urgent")
    assert len(script.requests) == 2
    Caller(kind, handler=script)("send_events", given[:1])
    assert "priority" not in json.loads(script.requests[2].content)


def test_a_retry_after_is_obeyed_and_one_beyond_the_patience_raises(
    kind: str, no_waits: list[float]
) -> None:
    asked = httpx.Response(503, headers={"Retry-After": "7"})
    assert Caller(kind, handler=Script(asked, delivered))("send_events", [event()]).sent == 1
    assert 7 <= no_waits.pop() <= 7.7
    asked.headers["Retry-After"] = "100"
    with pytest.raises(Unavailable) as raised:
        Caller(kind, handler=Script(delivered, asked))("send_events", map(event, range(1001)))
    assert (raised.value.status, no_waits) == (503, [])
    assert raised.value.retry_after_seconds >= 100
    assert [each.id for each in raised.value.unsent] == ["e1000"]
    assert raised.value.report.sent == 1000


def test_retries_end_when_the_waits_exceed_the_patience(kind: str, no_waits: list[float]) -> None:
    script = Script(httpx.ConnectError("refused"))
    with pytest.raises(Unavailable) as raised:
        Caller(kind, handler=script, retry_seconds=10)("get_progress", "c")
    assert (no_waits, len(script.requests), raised.value.status) == ([1, 2, 4], 4, None)


@pytest.mark.parametrize("status", [401, 403])
def test_a_refused_token_raises_with_the_events(kind: str, status: int) -> None:
    script = Script(delivered, status)
    with pytest.raises(AccessRefused) as raised:
        Caller(kind, handler=script)("send_events", map(event, range(1002)))
    assert (raised.value.status, raised.value.code) == (status, "scripted")
    assert len(raised.value.unsent) == 2
    assert raised.value.report.sent == 1000
    assert "hr_key" not in str(raised.value)


def test_a_result_forbidden_keeps_the_event_but_not_one_that_needs_a_manager(kind: str) -> None:
    refused = [{"id": f"e{n}", "status": "rejected", "code": "forbidden"} for n in (1, 2)]
    given = [event(1), event(2, event_type="progress_reset"), event(3)]
    with pytest.raises(AccessRefused) as raised:
        Caller(kind, handler=lambda request: delivered(request, *refused))("send_events", given)
    assert [each.id for each in raised.value.unsent] == ["e1"]
    assert raised.value.report.sent == 2
    assert [each.event.id for each in raised.value.report.lost] == ["e2"]


@pytest.mark.parametrize("status", [400, 409, 413, 418, 422])
def test_an_event_that_spoils_its_batch_is_found_by_halving(kind: str, status: int) -> None:
    seen: list[str] = []

    def handler(request: httpx.Request) -> httpx.Response:
        ids = sent_ids(request)
        if "e77" in ids:
            return httpx.Response(status, json={"code": "spoilt", "detail": "No."})
        seen.extend(ids)
        return delivered(request)

    report = Caller(kind, handler=handler)("send_events", map(event, range(100)))
    assert report.sent == 100
    [lost] = report.lost
    assert (lost.event.id, lost.status, lost.http_status) == ("e77", "refused", status)
    assert sorted(seen) == sorted(f"e{n}" for n in range(100) if n != 77)


def test_batches_are_split_by_number_and_by_bytes_and_keep_their_order(kind: str) -> None:
    script = Script(delivered)
    large = {"text": "x" * 16_000}
    given = [event(number, metadata=large if number >= 1500 else None) for number in range(1600)]
    assert Caller(kind, handler=script)("send_events", given).sent == 1600
    found = [sent_ids(each) for each in script.requests]
    assert [id for ids in found for id in ids] == [each.id for each in given]
    assert max(map(len, found)) == 1000
    assert max(len(each.content) for each in script.requests) < 1_048_576
    assert len(found) == 3


@pytest.mark.parametrize("status", [400, 404, 409, 412, 422])
def test_a_refused_read_raises_at_once(kind: str, status: int) -> None:
    script = Script(httpx.Response(status, json={"code": "no", "detail": "No.", "hint": "Ask."}))
    with pytest.raises(ApiError) as raised:
        Caller(kind, handler=script)("get_completion", "x")
    assert (raised.value.status, raised.value.code, raised.value.hint) == (status, "no", "Ask.")
    assert len(script.requests) == 1


def test_an_error_names_each_value_once() -> None:
    one = {"pointer": "#/title", "detail": "is missing", "code": "invalid"}
    other = {"in": "query", "parameter": "limit", "detail": "must be 1 or more", "code": "invalid"}
    detail = "2 of the values are not allowed; the first: #/title: is missing."
    error = ApiError(422, {"detail": detail, "errors": [one, other]})
    assert str(error) == f"422: {detail} limit: must be 1 or more."


def test_an_answer_of_another_form_names_what_is_missing(kind: str) -> None:
    for body in ("[]", "<h1>", '{"items": [{"userId": 7}], "nextCursor": null}'):
        script = Script(httpx.Response(200, text=body))
        with pytest.raises(UnexpectedAnswer):
            Caller(kind, handler=script)("list_learners", "c")


def test_waits_have_full_jitter_and_limits() -> None:
    assert [retry.backoff_seconds(n, one) for n in (1, 2, 5, 9, 10, 10_000)] == [
        *(1, 2, 16, 256, 300, 300)
    ]
    assert retry.backoff_seconds(3, lambda: 0.0) == 0
    wait = retry.retry_after_seconds
    assert wait("10", one) == pytest.approx(11)
    assert wait("999999999999", lambda: 0.0) == 900
    date = format_datetime(datetime.now(UTC) + timedelta(seconds=60), usegmt=True)
    assert 50 < (wait(date, lambda: 0.0) or 0) <= 60
    past = "Sun, 06 Nov 1994 08:49:37 GMT"
    assert [wait(each) for each in (None, "", "soon", "-1", past)] == [None] * 5


def test_a_token_may_come_from_a_function_and_is_never_shown(kind: str) -> None:
    tokens = iter(["one", "two"])

    async def asynchronous() -> str:
        return next(tokens)

    script = Script(httpx.Response(200, json={"items": [], "nextCursor": "c"}), delivered)
    script.answers[1] = httpx.Response(200, json={"items": [], "nextCursor": None})
    source = asynchronous if kind == "asyncio" else lambda: next(tokens)
    assert Caller(kind, token=source, handler=script)("list_completions") == []
    sent = [each.headers["Authorization"] for each in script.requests]
    assert sent == ["Bearer one", "Bearer two"]
    assert "cursor=c" in str(script.requests[1].url)
    with pytest.raises(HomeroomError) as raised:
        Caller(kind, token="hr_secret\n", handler=script)("list_credentials")
    assert "hr_secret" not in str(raised.value)
    assert "hr_secret" not in repr(Homeroom(URL, "hr_secret"))


@pytest.mark.parametrize(
    "url", ["homeroom.example.org", "ftp://a", "https://u:p@a", "https://a?b=c"]
)
def test_an_address_that_names_no_server_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="url"):
        Homeroom(url, "hr_key")


def test_both_clients_have_the_same_methods() -> None:
    def signatures(cls: type) -> dict[str, list[str]]:
        return {
            name: list(inspect.signature(method).parameters)
            for name, method in inspect.getmembers(cls, inspect.isfunction)
            if not name.startswith("_")
        }

    assert signatures(Homeroom) == signatures(AsyncHomeroom)
    assert connection.TIMEOUT_SECONDS == 15


# --- Events and types ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("field", "fields"),
    [
        ("event_type", {"event_type": "chapter_progres"}),
        ("user_id", {"user_id": ""}),
        ("course_id", {"course_id": "a\nb"}),
        ("id", {"id": "x" * 129}),
        ("chapter_id", {"event_type": "chapter_complete"}),
        ("timestamp", {"timestamp": datetime(2026, 11, 22)}),  # noqa: DTZ001
        ("progress", {"progress": float("nan")}),
        ("time_spent", {"time_spent": -1}),
        ("time_spent", {"time_spent": 86_401}),
        ("quiz", {"event_type": "quiz_attempt", "chapter_id": "a"}),
        ("quiz.score", {"quiz": Quiz("a", 11, 10)}),
        ("quiz.max_score", {"quiz": Quiz("a", 0, 0)}),
        ("metadata", {"metadata": {"text": "x" * 17_000}}),
        ("metadata", {"metadata": {"when": datetime.now(UTC)}}),
        ("metadata", {"metadata": {"text": "\ud800"}}),
    ],
)
def test_an_event_that_would_be_rejected_is_refused_where_it_is_made(
    field: str, fields: dict[str, Any]
) -> None:
    with pytest.raises(InvalidEvent) as raised:
        event(**fields)
    assert raised.value.field == field


def test_an_event_never_changes_and_survives_a_table_of_ones_own() -> None:
    metadata = {"player": "p"}
    made = event(
        event_type="quiz_attempt",
        chapter_id="a",
        progress=120,
        time_spent=12.5,
        quiz=Quiz("q", 7, 10),
        metadata=metadata,
    )
    before = made.encoded
    metadata["player"] = "other"
    assert made.progress == 100
    again = ProgressEvent.from_dict(json.loads(json.dumps(made.to_dict())))
    assert (again, again.encoded) == (made, before)
    for broken in ({}, {**made.to_dict(), "quiz": 7}, {**made.to_dict(), "timestamp": "x"}, None):
        with pytest.raises(InvalidEvent):
            ProgressEvent.from_dict(broken)  # type: ignore[arg-type]
    other = event(1, time_spent=1)
    with pytest.raises(InvalidEvent, match="two"):
        Caller("blocking", handler=Script(delivered))("send_events", [event(), other])


def test_ids_are_uuids_of_version_7_that_follow_each_other() -> None:
    found = [events.new_id() for _ in range(100)]
    assert {(UUID(each).version, UUID(each).variant) for each in found} == {(7, RFC_4122)}
    assert len(set(found)) == 100
    assert [each[:13] for each in found] == sorted(each[:13] for each in found)


SCHEMAS = json.loads((ROOT / "docs" / "openapi.json").read_text(encoding="utf-8"))["components"][
    "schemas"
]
OF_CHANGES = {"completion_id", "user_id", "course_id", "attempt"}


@pytest.mark.parametrize(
    ("kind", "schema"),
    [
        *((each, each.__name__) for each in (
            models.ChapterProgress, models.Completion, models.CompletionStep, models.CourseLearner,
            models.CourseProgress, models.Credential, models.Enrolment, models.LearnerCourse,
            models.Person, models.QuizProgress, models.UnmetCriterion,
        )),
    ],
    ids=lambda each: each if isinstance(each, str) else "",
)  # fmt: skip
def test_types_have_the_fields_of_the_contract(kind: type, schema: str) -> None:
    described = SCHEMAS[schema]["properties"]
    hints = typing.get_type_hints(kind)
    assert {camel_case(name) for name in hints} == set(described)
    for name, hint in hints.items():
        shown = described[camel_case(name)]
        is_nullable = any(each.get("type") == "null" for each in shown.get("anyOf", ()))
        assert is_nullable is (type(None) in typing.get_args(hint)), name
    assert dataclasses.is_dataclass(kind)


def test_a_server_of_an_earlier_release_lacks_what_was_added_since() -> None:
    fields = dataclasses.fields(models.Person)
    known = {camel_case(each.name): [] if "tuple" in str(each.type) else "x" for each in fields}
    del known["suspendedAt"]
    assert decode(models.Person, known).suspended_at is None
    del known["userId"]
    with pytest.raises(UnexpectedAnswer, match="userId"):
        decode(models.Person, known)


def test_words_are_those_of_the_contract() -> None:
    assert set(events.EVENT_TYPES) == set(SCHEMAS["EventType"]["enum"])
    kinds = SCHEMAS["Change"]["properties"]["kind"]["enum"]
    assert set(operations._RECORDS) == set(kinds) == set(typing.get_args(models.ChangeKind))


# --- A real server -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with server(tmp_path_factory.mktemp("python-client")) as address:
        yield address


@pytest.mark.service
def test_a_platform_sends_reads_and_follows(
    kind: str, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (client, async_client):
        monkeypatch.setattr(module, "PAGE_SIZE", 2)
    call = Caller(kind, url, ADMIN_KEY)
    course, odd = f"course-{kind}", f"a b?%2F..{kind}"
    start = call("list_changes", "now").next_cursor
    assert [call("put_course", each, COURSE).version for each in (course, odd, odd)] == [1, 1, 1]
    person = {"email": "ada@example.org", "givenName": "Ada", "familyName": "O"}
    assert call("put_person", f"ada-{kind}", person).given_name == "Ada"
    assert call("put_enrolment", odd, "a.b").user_id == "a.b"
    with pytest.raises(ApiError) as refused:  # no id, and no step to another path either
        call("get_progress", "..", user_id="a")
    assert (refused.value.status, "courseId" in str(refused.value)) == (422, True)

    people = [f"{kind}-{number}" for number in range(5)]
    sent = [
        ProgressEvent(
            user_id=user,
            course_id=course,
            chapter_id="exits",
            event_type="chapter_progress",
            progress=100,
            time_spent=12.5,
        )
        for user in people
    ]
    assert call("send_events", sent).results == ()
    again = call("send_events", sent)
    assert [each.status for each in again.results] == ["duplicate"] * 5
    assert again.lost == ()
    odd_ones = [
        dataclasses.replace(sent[0], progress=10),  # the id of another event
        event(user_id=people[0], course_id="unpublished", id=events.new_id()),
        event(
            event_type="attempt_renewed", user_id=people[0], course_id="none", id=events.new_id()
        ),
    ]
    report = call("send_events", odd_ones)
    assert [each.status for each in report.results][:2] == ["conflict", "quarantined"]
    assert {each.event.id for each in report.lost} >= {sent[0].id}

    progress = call("get_progress", course, user_id=people[0])
    assert (progress.status, progress.progress, progress.time_spent) == ("completed", 100, 13)
    assert progress.chapters[0].last_watched_at.tzinfo is not None
    assert [each.user_id for each in call("list_learners", course)] == people
    assert [each.title for each in call("list_progress_of_person", people[0])] == ["Fire safety"]
    completions = call("list_completions", course_id=course)
    assert sorted(each.user_id for each in completions) == people
    assert call("get_completion", completions[0].id).course_title == "Fire safety"
    soon = datetime.now(UTC) + timedelta(days=1)
    assert call("list_completions", course_id=course, since=soon) == []
    assert len(call("list_enrolments", course)) == 5
    assert call("list_credentials", user_id=people[0]) == []

    seen, cursor, has_more = [], start, True
    while has_more:
        page = call("list_changes", cursor, limit=3, kinds=["completions", "steps", "enrolments"])
        seen, cursor, has_more = [*seen, *page.items], page.next_cursor, page.has_more
    records = {type(each.record) for each in seen}
    assert records == {models.Completion, models.ChangedStep, models.Enrolment}
    done = [each.record for each in seen if isinstance(each.record, models.Completion)]
    assert {each.user_id for each in done} == set(people)
    gone = encode_cursor("another", Position(0, 1))
    for name in ("list_changes", "follow_changes"):
        with pytest.raises(CursorGone) as raised:
            call(name, gone)
        assert raised.value.reason == "other_epoch"
        assert "cursor=now" in (raised.value.hint or "")
    with pytest.raises(ApiError) as missing:
        call("get_progress", "nowhere", user_id="ada")
    assert (missing.value.status, missing.value.code) == (404, "not_found")
    with pytest.raises(AccessRefused):
        Caller(kind, url, "hr_wrong")("send_events", sent)


@pytest.mark.service
def test_following_goes_on_through_an_outage(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(operations, "backoff_seconds", lambda _: 0.01)
    with httpx.Client() as real:
        outage = iter([False, True, True, False])

        def handler(request: httpx.Request) -> httpx.Response:
            if next(outage):
                raise httpx.ConnectError("refused")
            found = real.get(request.url, headers={"Authorization": f"Bearer {ADMIN_KEY}"})
            return httpx.Response(found.status_code, content=found.content)

        http = httpx.Client(transport=httpx.MockTransport(handler))
        pages = Homeroom(url, ADMIN_KEY, http_client=http).follow_changes("now", poll_seconds=0.01)
        assert [next(pages).items, next(pages).items] == [(), ()]


# --- The package, its page and its example -------------------------------------------------------


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel with the backend that is installed, offline, and unpack it."""
    folder = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "hatchling", "build", "-d", str(folder), cwd=SOURCE)
    [wheel] = folder.glob("homeroom_client-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "site")
    return folder / "site"


def run(*words: str, cwd: Path, **environment: str) -> None:
    done = subprocess.run(
        words,
        cwd=cwd,
        env=clean_environment(**environment),
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-4_000:] + done.stderr[-4_000:]


def test_the_wheel_has_types_and_licence_and_needs_httpx_alone(package: Path) -> None:
    assert (package / "homeroom_client" / "py.typed").exists()
    [metadata] = package.glob("*.dist-info/METADATA")
    lines = metadata.read_text(encoding="utf-8").split("\n\n", 1)[0].splitlines()
    needed = [line for line in lines if line.startswith("Requires-Dist: ")]
    assert [Requirement(each.partition(": ")[2]).name for each in needed] == ["httpx"]
    [licence] = package.glob("*.dist-info/licenses/LICENSE")
    assert licence.read_bytes() == (ROOT / "LICENSE").read_bytes()
    built = {path.name for path in (package / "homeroom_client").iterdir()}
    assert built == {path.name for path in (SOURCE / "src" / "homeroom_client").glob("*[!_]")}


@pytest.mark.service
def test_the_blocks_of_the_readme_run(package: Path, url: str, tmp_path: Path) -> None:
    text = (SOURCE / "README.md").read_text(encoding="utf-8")
    found = re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    assert 2 * len(found) == text.count("```")
    program = tmp_path / "readme.py"
    program.write_text("\n".join(found).replace(URL, url), encoding="utf-8")
    environment = {"PYTHONPATH": str(package), "HOMEROOM_KEY": ADMIN_KEY}
    run(sys.executable, "-W", "error", str(program), cwd=tmp_path, **environment)


@pytest.mark.service
def test_the_example_follows_a_class_and_starts_anew_when_the_cursor_is_gone(
    package: Path, url: str, tmp_path: Path
) -> None:
    table = tmp_path / "platform.db"
    group = json.loads((EXAMPLE / "class.json").read_text(encoding="utf-8"))
    command = (str(EXAMPLE / "platform_service.py"), str(EXAMPLE / "class.json"), str(table))
    environment = clean_environment(
        PYTHONPATH=str(package), HOMEROOM_URL=url, HOMEROOM_KEY=ADMIN_KEY
    )

    def stored() -> set[str]:
        if not table.exists():
            return set()
        with sqlite3.connect(table) as db:
            known = db.execute("SELECT 1 FROM sqlite_master WHERE name = 'completion'").fetchone()
            rows = db.execute("SELECT user_id FROM completion") if known else ()
            return {row[0] for row in rows} & set(group["learners"])

    call = Caller("blocking", url, ADMIN_KEY)

    def is_enrolled(user: str) -> bool:
        courses = {each.course_id for each in call("list_progress_of_person", user)}
        return group["courseId"] in courses

    for count, user in enumerate(group["learners"], 1):
        process = subprocess.Popen([sys.executable, *command], env=environment)
        try:
            until(partial(is_enrolled, user))
            call(
                "send_events",
                [
                    ProgressEvent(
                        user_id=user,
                        course_id=group["courseId"],
                        chapter_id=chapter["id"],
                        event_type="chapter_complete",
                    )
                    for chapter in group["course"]["units"][0]["chapters"]
                ],
            )
            until(lambda count=count: len(stored()) == count)
        finally:
            process.terminate()
            process.wait(PATIENCE_SECONDS)
        with sqlite3.connect(table) as db:
            db.execute("UPDATE feed SET cursor = ?", (encode_cursor("another", Position(0, 1)),))
