"""Streams of change hints to clients: a topic and an id, never the data."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Sequence
from dataclasses import dataclass

from homeroom.db.database import Database
from homeroom.db.tx import PERSON_TOPIC
from homeroom.errors import TooBusy

MAX_PENDING_HINTS = 256
MAX_STREAMS = 1_000
MAX_STREAMS_PER_IDENTITY = 20
"""Streams of one identity: more than its browser windows, few enough for all the others."""
HEARTBEAT_SECONDS = 15.0
PUBLISH_SECONDS = 0.2
"""Hints of this time are published together: a thousand streams, each woken by every commit, made
an ingest request take 65 ms instead of 4 (decision 0034)."""
_STREAMS_AT_ONCE = 50
"""Streams that are woken before requests have their turn again."""
STREAM_SECONDS = 300.0
"""A stream ends after five minutes; browsers reconnect, and their token is checked again."""

Hint = tuple[str, str]
HINTS_LOST: Hint = ("*", "*")
"""Replaces hints that were dropped for a slow subscriber: reload everything shown."""
ShowHint = Callable[[Hint], Hint | None]
"""Return a hint as one caller may see it, or None."""
ANY_ID = "*"
"""The id of a hint about a record whose id is not told."""


def hint_person(hint: Hint) -> str | None:
    """Return the person whose record a hint is about; None where that is not clear.

    Ids of progress are ``user/course`` and of enrolments ``course/user``. User and course ids may
    hold a slash; an ambiguous id names no person.
    """
    topic, id = hint
    if topic == "people":
        return id
    if id.count("/") != 1:
        return None
    first, second = id.split("/")
    return {"progress": first, "enrolments": second}.get(topic)


def show_all(hint: Hint) -> Hint | None:
    """Show each hint to a caller who sees all people; it needs none by person."""
    return None if hint[0] == PERSON_TOPIC else hint


@dataclass(frozen=True, slots=True)
class VisibleHints:
    """The hints that a caller may see who does not see all people."""

    people: Collection[str]
    """The people whose records the caller reads."""
    person: str | None = None
    """The caller as a person, who has messages."""
    manager: str | None = None
    """The caller as a manager of programmes."""
    topics: Collection[str] = ()
    """Topics whose records name no person and that the caller's role may read."""

    def show(self, hint: Hint) -> Hint | None:
        """Return a hint as the caller may see it, or None; it passes ``HINTS_LOST``."""
        topic, id = hint
        if hint == HINTS_LOST or topic in self.topics:
            return hint
        if topic == "notifications":
            return hint if id == self.person else None
        if topic != PERSON_TOPIC:
            return hint if hint_person(hint) in self.people else None
        about, _, user_id = id.partition("/")
        is_visible = user_id == self.manager if about == "programmes" else user_id in self.people
        return (about, ANY_ID) if is_visible else None


class _HintSubscriber:
    """Pending hints of one client: each once, at most ``MAX_PENDING_HINTS``."""

    def __init__(self, key: str, show: ShowHint) -> None:
        self.key, self.show = key, show
        self.pending: dict[Hint, None] = {}
        self.wake = asyncio.Event()

    def add(self, hints: Iterable[Hint]) -> None:
        add_hints(self.pending, filter(None, map(self.show, hints)))
        if self.pending:
            self.wake.set()


def add_hints(pending: dict[Hint, None], hints: Iterable[Hint]) -> None:
    """Add new hints; above ``MAX_PENDING_HINTS``, ``HINTS_LOST`` replaces all."""
    for hint in hints:
        if hint not in pending and len(pending) >= MAX_PENDING_HINTS:
            pending.clear()
            pending[HINTS_LOST] = None
            return
        pending[hint] = None


class HintStreams:
    """Publish the hints of this process's commits to subscribers; hints may be lost."""

    def __init__(
        self,
        db: Database,
        *,
        heartbeat_seconds: float = HEARTBEAT_SECONDS,
        stream_seconds: float = STREAM_SECONDS,
    ) -> None:
        """Publish the commits of ``db``."""
        self.db = db
        self._heartbeat_seconds, self._stream_seconds = heartbeat_seconds, stream_seconds
        self._subscribers: set[_HintSubscriber] = set()
        self._unsubscribe: Callable[[], None] | None = None
        self._closed = False
        self._published: dict[Hint, None] = {}
        """The hints of the last ``PUBLISH_SECONDS``."""

    @property
    def stream_count(self) -> int:
        """Return the number of open streams."""
        return len(self._subscribers)

    def close(self) -> None:
        """End all streams, so that a graceful stop does not wait for them."""
        self._closed = True
        for subscriber in self._subscribers:
            subscriber.wake.set()

    def check_capacity(self, key: str) -> None:
        """Raise ``TooBusy`` if too many streams are open, in all or of one identity."""
        if len(self._subscribers) >= MAX_STREAMS:
            raise TooBusy("Too many streams are open; try again later.", retry_after_seconds=30)
        if sum(each.key == key for each in self._subscribers) >= MAX_STREAMS_PER_IDENTITY:
            raise TooBusy(
                f"You have {MAX_STREAMS_PER_IDENTITY} streams open; close one first.",
                retry_after_seconds=30,
            )

    async def stream(self, key: str, show: ShowHint) -> AsyncIterator[Hint | None]:
        """Yield the hints that ``show`` returns, and None as a heartbeat.

        ``key`` names the identity whose streams ``check_capacity`` counts.
        """
        subscriber = _HintSubscriber(key, show)
        self._subscribers.add(subscriber)
        if self._unsubscribe is None:  # without subscribers, commits cost nothing more
            self._unsubscribe = self.db.subscribe(self._publish)
        ends = asyncio.get_running_loop().time() + self._stream_seconds
        try:
            yield None  # the client learns at once that it is connected
            while not self._closed and (left := ends - asyncio.get_running_loop().time()) > 0:
                try:
                    async with asyncio.timeout(min(self._heartbeat_seconds, left)):
                        await subscriber.wake.wait()
                except TimeoutError:
                    yield None
                    continue
                subscriber.wake.clear()
                hints, subscriber.pending = subscriber.pending, {}
                for hint in hints:
                    yield hint
        finally:
            self._subscribers.discard(subscriber)
            if not self._subscribers and self._unsubscribe is not None:
                self._unsubscribe()
                self._unsubscribe = None

    def _publish(self, hints: Sequence[Hint]) -> None:
        if not self._published:
            asyncio.get_running_loop().call_later(PUBLISH_SECONDS, self._flush)
        add_hints(self._published, hints)

    def _flush(self) -> None:
        hints, self._published = tuple(self._published), {}
        self._wake_some(hints, list(self._subscribers))

    def _wake_some(self, hints: Sequence[Hint], waiting: list[_HintSubscriber]) -> None:
        """Give hints to some subscribers, and to the others once requests had their turn."""
        for subscriber in waiting[:_STREAMS_AT_ONCE]:
            subscriber.add(hints)
        if rest := waiting[_STREAMS_AT_ONCE:]:
            asyncio.get_running_loop().call_soon(self._wake_some, hints, rest)
