"""Tell who listens what has changed: a topic and an id, never the data."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence

from homeroom.db.database import Database
from homeroom.errors import TooBusy

MAX_WAITING = 256
MAX_LISTENERS = 1_000
MAX_OF_ONE = 20
"""Streams of one token's holder: nobody has more windows open, and nobody takes all the others'."""
HEARTBEAT_SECONDS = 15.0
STREAM_SECONDS = 300.0
"""A stream ends after five minutes; browsers open it again, and their token is checked again."""

Hint = tuple[str, str]
MISSED: Hint = ("*", "*")
"""Stands for hints that were dropped, because the listener was slow: read again what is shown."""
Visible = Callable[[Hint], bool]


def is_about(subject: str, hint: Hint) -> bool:
    """Say whether a hint is about a learner's own record.

    Ids of progress are ``user/course`` and of enrolments ``course/user``. User and course ids may
    hold a slash; what can be read in two ways is kept back.
    """
    topic, id = hint
    if hint == MISSED or id == subject:
        return topic in {"*", "people"}
    if id.count("/") != 1:
        return False
    first, second = id.split("/")
    return (topic == "progress" and first == subject) or (
        topic == "enrolments" and second == subject
    )


class _Listener:
    """What waits for one client: at most so many hints, each once."""

    def __init__(self, who: str, visible: Visible) -> None:
        self.who, self.visible = who, visible
        self.waiting: deque[Hint] = deque()
        self.wake = asyncio.Event()

    def tell(self, hints: Sequence[Hint]) -> None:
        for hint in hints:
            if not self.visible(hint) or hint in self.waiting:
                continue
            if len(self.waiting) >= MAX_WAITING:
                self.waiting.clear()
                self.waiting.append(MISSED)
                break
            self.waiting.append(hint)
        if self.waiting:
            self.wake.set()


class Hints:
    """Pass the topics of this process's commits on to listeners; hints may be lost."""

    def __init__(
        self,
        db: Database,
        *,
        heartbeat_seconds: float = HEARTBEAT_SECONDS,
        stream_seconds: float = STREAM_SECONDS,
    ) -> None:
        """Take the database whose commits are told of."""
        self._db = db
        self._heartbeat, self._stream = heartbeat_seconds, stream_seconds
        self._listeners: set[_Listener] = set()
        self._unsubscribe: Callable[[], None] | None = None
        self._closed = False

    @property
    def listening(self) -> int:
        """Return how many streams are open."""
        return len(self._listeners)

    def close(self) -> None:
        """End all streams, so that a stop of the server need not wait for them."""
        self._closed = True
        for listener in self._listeners:
            listener.wake.set()

    def check_room(self, who: str) -> None:
        """Raise ``TooBusy`` if too many streams are open, in all or of this listener."""
        if len(self._listeners) >= MAX_LISTENERS:
            raise TooBusy("Too many streams are open; ask again later.", retry_after_seconds=30)
        if sum(each.who == who for each in self._listeners) >= MAX_OF_ONE:
            raise TooBusy(
                f"You have {MAX_OF_ONE} streams open; close one first.", retry_after_seconds=30
            )

    async def listen(self, who: str, visible: Visible) -> AsyncIterator[Hint | None]:
        """Yield hints as they come, and None where nothing came for a while."""
        listener = _Listener(who, visible)
        self._listeners.add(listener)
        if self._unsubscribe is None:  # without listeners, commits pay nothing
            self._unsubscribe = self._db.subscribe(self._tell)
        ends = asyncio.get_running_loop().time() + self._stream
        try:
            yield None  # the client sees at once that it is connected
            while not self._closed and (left := ends - asyncio.get_running_loop().time()) > 0:
                try:
                    async with asyncio.timeout(min(self._heartbeat, left)):
                        await listener.wake.wait()
                except TimeoutError:
                    yield None
                    continue
                listener.wake.clear()
                while listener.waiting:
                    yield listener.waiting.popleft()
        finally:
            self._listeners.discard(listener)
            if not self._listeners and self._unsubscribe is not None:
                self._unsubscribe()
                self._unsubscribe = None

    def _tell(self, hints: Sequence[Hint]) -> None:
        for listener in self._listeners:
            listener.tell(hints)
