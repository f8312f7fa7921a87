"""The operations of the API, apart from how bytes and time pass (pure).

Each is a generator: it yields a ``Request`` or a ``Pause``, is sent the ``Answer`` to a request,
and returns its result. The clients run the same ones, blocking or asynchronous.
"""

from __future__ import annotations

import json
import logging
from collections import deque
from collections.abc import Generator, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Generic, TypeAlias, TypeVar
from urllib.parse import quote

from homeroom_client.decoding import decode
from homeroom_client.errors import (
    AccessRefused,
    ApiError,
    CursorGone,
    Unavailable,
    UnexpectedAnswer,
)
from homeroom_client.events import (
    MANAGED_TYPES,
    MAX_BATCH_EVENTS,
    PRIORITIES,
    Priority,
    ProgressEvent,
    batch_body,
    check_events,
    first_batch,
    format_time,
)
from homeroom_client.models import (
    Change,
    ChangedStep,
    ChangePage,
    Completion,
    Credential,
    Enrolment,
    EventResult,
    SendReport,
)
from homeroom_client.retry import (
    Verdict,
    backoff_seconds,
    classify_batch,
    classify_request,
    retry_after_seconds,
)

log = logging.getLogger("homeroom_client")

T = TypeVar("T")
PAGE_SIZE = 500
INGEST_PATH = "/api/progress/enhanced-update"
_RECORDS = {
    "completions": Completion,
    "steps": ChangedStep,
    "credentials": Credential,
    "enrolments": Enrolment,
}


@dataclass(frozen=True, slots=True)
class Request:
    """A request to send."""

    method: str
    path: str
    query: Mapping[str, str]
    body: bytes | None = None


@dataclass(frozen=True, slots=True)
class Pause:
    """A wait before the next request."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer to a request; status 0 means that none came, and ``body`` says why."""

    status: int
    retry_after: str | None
    body: bytes

    def json(self) -> Any:
        """Return the parsed body; None where it is no JSON."""
        try:
            return json.loads(self.body)
        except ValueError:
            return None


Steps: TypeAlias = Generator[Request | Pause, Answer, T]


@dataclass(frozen=True, slots=True)
class Patience:
    """The time to go on retrying for, counted in waits; None is without an end."""

    seconds: float | None


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """A page of a list; ``next_cursor`` is None at the end."""

    items: tuple[T, ...]
    next_cursor: str | None


class _Retry:
    """The waits between attempts at one request."""

    def __init__(self, patience: Patience) -> None:
        self._patience = patience
        self._failures = 0
        self._waited_seconds = 0.0

    def pause(self, request: Request, answer: Answer) -> Pause:
        """Return the wait before the next attempt; raises ``Unavailable`` after the last one."""
        self._failures += 1
        asked = retry_after_seconds(answer.retry_after)
        wait = backoff_seconds(self._failures) if asked is None else asked
        what = f"answered {answer.status}" if answer.status else answer.body.decode()
        told = f"{request.method} {request.path}: {what}"
        limit = self._patience.seconds
        if limit is not None and self._waited_seconds + wait > limit:
            text = f"{told} ({self._failures} attempts). Fix: check the URL and the server."
            raise Unavailable(text, answer.status or None, asked)
        self._waited_seconds += wait
        # Without the path, which may have a user id in it.
        log.warning(
            "request_retried method=%s failures=%d wait_seconds=%.1f reason=%s",
            *(request.method, self._failures, wait, what),
        )
        return Pause(wait)


def path(*parts: str) -> str:
    """Return a path below ``/api/v1`` with each part percent-encoded."""
    return "/api/v1/" + "/".join(_encoded(part) for part in parts)


def _encoded(part: object) -> str:
    if not isinstance(part, str) or not part:
        raise ValueError(f"an id must be a text that is not empty, not {part!r}")
    # What is nothing but dots would be taken for a step to another path.
    return part.replace(".", "%2E") if part in (".", "..") else quote(part, safe="")


def query(**values: str | datetime | int | None) -> dict[str, str]:
    """Return the parameters that are given, with names as in JSON."""
    given: dict[str, str] = {}
    for name, value in values.items():
        if isinstance(value, datetime):
            if value.tzinfo is None:
                raise ValueError(f"{name} must have a time zone")
            given[name] = format_time(value)
        elif value is not None:
            given[name] = str(value)
    return given


def call(request: Request, patience: Patience) -> Steps[Any]:
    """Send a request that may be repeated; return the JSON of the answer."""
    retry = _Retry(patience)
    while True:
        answer = yield request
        verdict = classify_request(answer.status) if answer.status else Verdict.RETRY
        if verdict is Verdict.RETRY:
            yield retry.pause(request, answer)
            continue
        body = answer.json()
        if verdict is Verdict.DELIVERED:
            if body is None:
                raise UnexpectedAnswer(f"{request.method} {request.path}: the answer is no JSON.")
            return body
        raise _refusal(answer.status, body)


def get_record(
    kind: type[T],
    place: str,
    patience: Patience,
    parameters: Mapping[str, str] | None = None,
) -> Steps[T]:
    """Read one record."""
    return decode(kind, (yield from call(Request("GET", place, parameters or {}), patience)))


def put_record(
    kind: type[T], place: str, body: Mapping[str, Any] | None, patience: Patience
) -> Steps[T]:
    """Write one record; to repeat it changes nothing."""
    content = None if body is None else json.dumps(body, allow_nan=False).encode()
    return decode(kind, (yield from call(Request("PUT", place, {}, content), patience)))


def list_page(
    kind: type[T], place: str, parameters: Mapping[str, str], patience: Patience
) -> Steps[Page[T]]:
    """Read one page of a list."""
    body = yield from call(Request("GET", place, parameters), patience)
    items, cursor = _member(body, "items", list), body.get("nextCursor")
    if cursor is not None and not isinstance(cursor, str):
        raise UnexpectedAnswer(f"GET {place}: nextCursor is no text.")
    return Page(tuple(decode(kind, each) for each in items), cursor)


def list_changes(
    cursor: str | None, kinds: Iterable[str], limit: int | None, patience: Patience
) -> Steps[ChangePage]:
    """Read one page of the feed of changes; raises ``CursorGone``."""
    chosen = ",".join(kinds) or None
    parameters = query(cursor=cursor, kinds=chosen, limit=limit)
    body = yield from call(Request("GET", path("changes"), parameters), patience)
    changes = tuple(_change(each) for each in _member(body, "items", list))
    return ChangePage(changes, _member(body, "nextCursor", str), _member(body, "hasMore", bool))


def send_events(
    given: Iterable[ProgressEvent], patience: Patience, priority: Priority | None = None
) -> Steps[SendReport]:
    """Send events in batches until the server has answered for each.

    Raises ``AccessRefused`` or ``Unavailable`` with the events that are left and the report on the
    others.
    """
    if priority is not None and priority not in PRIORITIES:  # the server would refuse every batch
        raise ValueError(f"priority must be one of {', '.join(PRIORITIES)}, or None.")
    waiting = deque(check_events(given))
    report = SendReport(0)
    limit = MAX_BATCH_EVENTS
    retry = _Retry(patience)
    try:
        while waiting:
            batch = first_batch(waiting, limit)
            request = Request("POST", INGEST_PATH, {}, batch_body(batch, priority))
            answer = yield request
            body = answer.json()
            verdict = Verdict.RETRY
            if answer.status:
                has_results = isinstance(body, dict) and isinstance(body.get("results"), list)
                verdict = classify_batch(answer.status, has_results)
            if verdict is Verdict.RETRY:
                yield retry.pause(request, answer)
            elif verdict is Verdict.ACCESS:
                raise _refusal(answer.status, body)
            elif verdict is Verdict.REFUSED and len(batch) > 1:
                limit = len(batch) // 2
            else:
                results = [_refused(batch[0], answer.status, body)]
                if verdict is Verdict.DELIVERED:
                    retry, limit = _Retry(patience), MAX_BATCH_EVENTS
                    results = _results(batch, body["results"])
                kept = [each for each in results if _is_of_another_token(each)]
                for _ in batch:
                    waiting.popleft()
                waiting.extendleft(each.event for each in reversed(kept))
                report = SendReport(
                    report.sent + len(batch) - len(kept),
                    (*report.results, *(each for each in results if each not in kept)),
                    _merged(report.unknown_fields, body),
                )
                if kept:
                    problem = {"code": kept[0].code, "detail": kept[0].message}
                    raise AccessRefused(403, problem)
    except (ApiError, Unavailable) as error:
        error.unsent, error.report = tuple(waiting), report
        raise
    return report


def _merged(names: tuple[str, ...], body: object) -> tuple[str, ...]:
    """Return names of unknown fields with those of an answer, each once."""
    new = body.get("unknownFields") if isinstance(body, dict) else None
    texts = [each for each in new if isinstance(each, str)] if isinstance(new, list) else []
    return tuple(dict.fromkeys((*names, *texts)))


def _is_of_another_token(result: EventResult) -> bool:
    """Return whether another token could send the event, as after an HTTP 403."""
    return result.code == "forbidden" and result.event.event_type not in MANAGED_TYPES


def _results(batch: list[ProgressEvent], results: list[Any]) -> list[EventResult]:
    """Return the server's results with their events."""
    events = {event.id: event for event in batch}
    found: list[EventResult] = []
    for each in results:
        event = events.get(str(each.get("id"))) if isinstance(each, dict) else None
        if event is None:
            continue  # of no event of this batch
        code, message = each.get("code"), each.get("message")
        found.append(EventResult(event, str(each.get("status")), code, message))
    return found


def _refused(event: ProgressEvent, status: int, body: object) -> EventResult:
    refusal = _refusal(status, body)
    return EventResult(event, "refused", refusal.code, str(refusal), status)


def _refusal(status: int, body: object) -> ApiError:
    problem = body if isinstance(body, dict) else {}
    if status in (401, 403):
        return AccessRefused(status, problem)
    if problem.get("code") == "cursor_gone":
        return CursorGone(status, problem)
    return ApiError(status, problem)


def _change(item: object) -> Change:
    kind = _member(item, "kind", str)
    data = item.get("data") if isinstance(item, dict) else None
    record = _RECORDS.get(kind)
    typed = decode(record, data) if record is not None and data is not None else None
    at = decode(datetime, _member(item, "at", str))
    return Change(kind, _member(item, "id", str), at, data, typed)


def _member(body: object, name: str, kind: type[T]) -> T:
    value = body.get(name) if isinstance(body, dict) else None
    if not isinstance(value, kind):
        raise UnexpectedAnswer(f"The answer has no {name} as Homeroom's API has it.")
    return value
