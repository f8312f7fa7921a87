"""The blocking client."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime
from types import TracebackType
from typing import Any, Self, TypeVar

import httpx

from homeroom_client import operations
from homeroom_client.connection import (
    RETRY_SECONDS,
    TIMEOUT_SECONDS,
    answer_of,
    answer_without_response,
    arguments,
    checked_url,
)
from homeroom_client.events import Priority, ProgressEvent
from homeroom_client.models import (
    ChangeKind,
    ChangePage,
    Completion,
    Course,
    CourseLearner,
    CourseProgress,
    Credential,
    Enrolment,
    LearnerCourse,
    Person,
    SendReport,
)
from homeroom_client.operations import (
    PAGE_SIZE,
    Answer,
    Patience,
    Pause,
    Request,
    Steps,
    path,
    query,
)

T = TypeVar("T")


class Homeroom:
    """A Homeroom server, called from threads. ``AsyncHomeroom`` has the same methods.

    ``token`` is an API key or a JWT, or a function that returns the one that is valid now and is
    called for each request. Network faults, 408, 425, 429 and 5xx are retried until the waits of
    one request add up to ``retry_seconds``; then ``Unavailable`` is raised. Other refusals raise
    ``ApiError``, 401 and 403 its kind ``AccessRefused``.
    """

    def __init__(
        self,
        url: str,
        token: str | Callable[[], str],
        *,
        retry_seconds: float | None = RETRY_SECONDS,
        timeout_seconds: float = TIMEOUT_SECONDS,
        http_client: httpx.Client | None = None,
    ) -> None:
        """Connect to the server at ``url``; a client that is given is not closed by this one.

        ``retry_seconds`` None retries without end. ``timeout_seconds`` is how long a connection may
        be silent.
        """
        self._url, self._token = checked_url(url), token
        self._patience, self._timeout_seconds = Patience(retry_seconds), timeout_seconds
        self._owns_http = http_client is None
        self._http = http_client or httpx.Client()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self._url)!r})"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        if self._owns_http:
            self._http.close()

    def send_events(
        self, events: Iterable[ProgressEvent], *, priority: Priority | None = None
    ) -> SendReport:
        """Send events, 1,000 at a time; return once the server has answered for each.

        Without ``priority`` completions and quiz attempts go first where many events wait; a
        backfill says ``low``.

        Each counts once however often it is sent. After ``Unavailable`` or ``AccessRefused`` send
        the error's ``unsent`` again. Events that the server rejects are in the report's ``lost``.
        """
        return self._run(operations.send_events(events, self._patience, priority))

    def get_progress(self, course_id: str, user_id: str | None = None) -> CourseProgress:
        """Return a learner's course; without ``user_id`` that of the token's own user."""
        place, parameters = path("courses", course_id, "progress"), query(userId=user_id)
        return self._run(operations.get_record(CourseProgress, place, self._patience, parameters))

    def list_progress_of_person(self, user_id: str) -> Iterator[LearnerCourse]:
        """Yield all courses of a learner."""
        return self._list(LearnerCourse, path("people", user_id, "progress"))

    def list_learners(self, course_id: str) -> Iterator[CourseLearner]:
        """Yield the learners of a course."""
        return self._list(CourseLearner, path("courses", course_id, "learners"))

    def list_enrolments(self, course_id: str) -> Iterator[Enrolment]:
        """Yield the enrolments of a course."""
        return self._list(Enrolment, path("courses", course_id, "enrolments"))

    def list_completions(
        self,
        *,
        user_id: str | None = None,
        course_id: str | None = None,
        since: datetime | None = None,
    ) -> Iterator[Completion]:
        """Yield completions, the last recorded first."""
        parameters = query(userId=user_id, courseId=course_id, since=since)
        return self._list(Completion, path("completions"), parameters)

    def get_completion(self, completion_id: str) -> Completion:
        """Return a completion."""
        place = path("completions", completion_id)
        return self._run(operations.get_record(Completion, place, self._patience))

    def list_credentials(self, *, user_id: str | None = None) -> Iterator[Credential]:
        """Yield credentials."""
        return self._list(Credential, path("credentials"), query(userId=user_id))

    def put_course(self, course_id: str, course: Mapping[str, Any]) -> Course:
        """Publish a course, a mapping as the API has it; the same again makes no new version."""
        place = path("courses", course_id)
        return self._run(operations.put_record(Course, place, course, self._patience))

    def put_enrolment(self, course_id: str, user_id: str) -> Enrolment:
        """Enrol a learner, who may be enrolled already."""
        place = path("courses", course_id, "enrolments", user_id)
        return self._run(operations.put_record(Enrolment, place, None, self._patience))

    def put_person(self, user_id: str, person: Mapping[str, Any]) -> Person:
        """Write a person of the built-in directory, a mapping as the API has it."""
        place = path("people", user_id)
        return self._run(operations.put_record(Person, place, person, self._patience))

    def list_changes(
        self,
        cursor: str | None = None,
        *,
        kinds: Iterable[ChangeKind] = (),
        limit: int | None = None,
    ) -> ChangePage:
        """Return the changes after a cursor; ``now`` is the end, None the first that is kept.

        Raises ``CursorGone`` for a cursor from which the feed cannot go on.
        """
        return self._run(operations.list_changes(cursor, kinds, limit, self._patience))

    def follow_changes(
        self,
        cursor: str | None = None,
        *,
        kinds: Iterable[ChangeKind] = (),
        poll_seconds: float = 1.0,
    ) -> Iterator[ChangePage]:
        """Yield pages of changes without end, the empty ones too; store each ``next_cursor``.

        Waits out any time without the server. Raises ``CursorGone`` when you have to start anew:
        read ``next_cursor`` of ``list_changes("now")``, then the lists, and follow that cursor.
        """
        chosen, patience = tuple(kinds), Patience(None)
        while True:
            page = self._run(operations.list_changes(cursor, chosen, PAGE_SIZE, patience))
            cursor = page.next_cursor
            yield page
            if not page.has_more:
                time.sleep(poll_seconds)

    def _list(
        self, kind: type[T], place: str, parameters: Mapping[str, str] | None = None
    ) -> Iterator[T]:
        """Yield the items of a list, page after page."""
        given = {**(parameters or {}), "limit": str(PAGE_SIZE)}
        while True:
            page = self._run(operations.list_page(kind, place, given, self._patience))
            yield from page.items
            if page.next_cursor is None:
                return
            given["cursor"] = page.next_cursor

    def _run(self, steps: Steps[T]) -> T:
        """Run an operation to its result."""
        answer: Answer | None = None
        while True:
            try:
                step = next(steps) if answer is None else steps.send(answer)
            except StopIteration as end:
                result: T = end.value
                return result
            if isinstance(step, Pause):
                time.sleep(step.seconds)
                answer = None
            else:
                answer = self._send(step)

    def _send(self, request: Request) -> Answer:
        token = self._token if isinstance(self._token, str) else self._token()
        sent = arguments(self._url, token, request, self._timeout_seconds)
        try:
            return answer_of(self._http.request(**sent))
        except httpx.RequestError as error:
            return answer_without_response(error)
