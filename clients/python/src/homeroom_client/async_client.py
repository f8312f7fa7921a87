"""The client for asyncio."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
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


class AsyncHomeroom:
    """A Homeroom server, called from asyncio. ``Homeroom`` has the same methods.

    ``token`` is an API key or a JWT, or a function, asynchronous or not, that returns the one that
    is valid now and is called for each request. Network faults, 408, 425, 429 and 5xx are retried
    until the waits of one request add up to ``retry_seconds``; then ``Unavailable`` is raised.
    Other refusals raise ``ApiError``, 401 and 403 its kind ``AccessRefused``.
    """

    def __init__(
        self,
        url: str,
        token: str | Callable[[], str | Awaitable[str]],
        *,
        retry_seconds: float | None = RETRY_SECONDS,
        timeout_seconds: float = TIMEOUT_SECONDS,
        http_client: httpx.AsyncClient | None = None,
    ) -> None:
        """Connect to the server at ``url``; a client that is given is not closed by this one.

        ``retry_seconds`` None retries without end. ``timeout_seconds`` is how long a connection may
        be silent.
        """
        self._url, self._token = checked_url(url), token
        self._patience, self._timeout_seconds = Patience(retry_seconds), timeout_seconds
        self._owns_http = http_client is None
        self._http = http_client or httpx.AsyncClient()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self._url)!r})"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        if self._owns_http:
            await self._http.aclose()

    async def send_events(
        self, events: Iterable[ProgressEvent], *, priority: Priority | None = None
    ) -> SendReport:
        """Send events, 1,000 at a time; return once the server has answered for each.

        Without ``priority`` completions and quiz attempts go first where many events wait; a
        backfill says ``low``.

        Each counts once however often it is sent. After ``Unavailable`` or ``AccessRefused`` send
        the error's ``unsent`` again. Events that the server rejects are in the report's ``lost``.
        """
        return await self._run(operations.send_events(events, self._patience, priority))

    async def get_progress(self, course_id: str, user_id: str | None = None) -> CourseProgress:
        """Return a learner's course; without ``user_id`` that of the token's own user."""
        place, parameters = path("courses", course_id, "progress"), query(userId=user_id)
        return await self._run(
            operations.get_record(CourseProgress, place, self._patience, parameters)
        )

    def list_progress_of_person(self, user_id: str) -> AsyncIterator[LearnerCourse]:
        """Yield all courses of a learner."""
        return self._list(LearnerCourse, path("people", user_id, "progress"))

    def list_learners(self, course_id: str) -> AsyncIterator[CourseLearner]:
        """Yield the learners of a course."""
        return self._list(CourseLearner, path("courses", course_id, "learners"))

    def list_enrolments(self, course_id: str) -> AsyncIterator[Enrolment]:
        """Yield the enrolments of a course."""
        return self._list(Enrolment, path("courses", course_id, "enrolments"))

    def list_completions(
        self,
        *,
        user_id: str | None = None,
        course_id: str | None = None,
        since: datetime | None = None,
    ) -> AsyncIterator[Completion]:
        """Yield completions, the last recorded first."""
        parameters = query(userId=user_id, courseId=course_id, since=since)
        return self._list(Completion, path("completions"), parameters)

    async def get_completion(self, completion_id: str) -> Completion:
        """Return a completion."""
        place = path("completions", completion_id)
        return await self._run(operations.get_record(Completion, place, self._patience))

    def list_credentials(self, *, user_id: str | None = None) -> AsyncIterator[Credential]:
        """Yield credentials."""
        return self._list(Credential, path("credentials"), query(userId=user_id))

    async def put_course(self, course_id: str, course: Mapping[str, Any]) -> Course:
        """Publish a course, a mapping as the API has it; the same again makes no new version."""
        place = path("courses", course_id)
        return await self._run(operations.put_record(Course, place, course, self._patience))

    async def put_enrolment(self, course_id: str, user_id: str) -> Enrolment:
        """Enrol a learner, who may be enrolled already."""
        place = path("courses", course_id, "enrolments", user_id)
        return await self._run(operations.put_record(Enrolment, place, None, self._patience))

    async def put_person(self, user_id: str, person: Mapping[str, Any]) -> Person:
        """Write a person of the built-in directory, a mapping as the API has it."""
        place = path("people", user_id)
        return await self._run(operations.put_record(Person, place, person, self._patience))

    async def list_changes(
        self,
        cursor: str | None = None,
        *,
        kinds: Iterable[ChangeKind] = (),
        limit: int | None = None,
    ) -> ChangePage:
        """Return the changes after a cursor; ``now`` is the end, None the first that is kept.

        Raises ``CursorGone`` for a cursor from which the feed cannot go on.
        """
        return await self._run(operations.list_changes(cursor, kinds, limit, self._patience))

    async def follow_changes(
        self,
        cursor: str | None = None,
        *,
        kinds: Iterable[ChangeKind] = (),
        poll_seconds: float = 1.0,
    ) -> AsyncIterator[ChangePage]:
        """Yield pages of changes without end, the empty ones too; store each ``next_cursor``.

        Waits out any time without the server. Raises ``CursorGone`` when you have to start anew:
        read ``next_cursor`` of ``list_changes("now")``, then the lists, and follow that cursor.
        """
        chosen, patience = tuple(kinds), Patience(None)
        while True:
            page = await self._run(operations.list_changes(cursor, chosen, PAGE_SIZE, patience))
            cursor = page.next_cursor
            yield page
            if not page.has_more:
                await asyncio.sleep(poll_seconds)

    async def _list(
        self, kind: type[T], place: str, parameters: Mapping[str, str] | None = None
    ) -> AsyncIterator[T]:
        """Yield the items of a list, page after page."""
        given = {**(parameters or {}), "limit": str(PAGE_SIZE)}
        while True:
            page = await self._run(operations.list_page(kind, place, given, self._patience))
            for item in page.items:
                yield item
            if page.next_cursor is None:
                return
            given["cursor"] = page.next_cursor

    async def _run(self, steps: Steps[T]) -> T:
        """Run an operation to its result."""
        answer: Answer | None = None
        while True:
            try:
                step = next(steps) if answer is None else steps.send(answer)
            except StopIteration as end:
                result: T = end.value
                return result
            if isinstance(step, Pause):
                await asyncio.sleep(step.seconds)
                answer = None
            else:
                answer = await self._send(step)

    async def _send(self, request: Request) -> Answer:
        token = self._token if isinstance(self._token, str) else self._token()
        if not isinstance(token, str):
            token = await token
        sent = arguments(self._url, token, request, self._timeout_seconds)
        try:
            return answer_of(await self._http.request(**sent))
        except httpx.RequestError as error:
            return answer_without_response(error)
