"""Whether Redis answers: said once when it goes away, and once when it is back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import structlog
from redis.exceptions import RedisError, ResponseError

from homeroom.errors import Unavailable

log = structlog.get_logger(__name__)
AWAY = (RedisError, OSError, TimeoutError)
"""What the client raises while Redis cannot do what it is asked."""


class Link:
    """What is known of the way to Redis; one for all queues of a process."""

    def __init__(self, on_away: Callable[[], None]) -> None:
        """Take what is to be done when Redis goes away."""
        self._on_away = on_away
        self.answers = True
        """What was said last."""
        self._refuses = False

    def lost(self, error: BaseException) -> None:
        """Note that Redis did not do what it was asked."""
        self._on_away()
        # A full or a read-only Redis answers questions all the same.
        self._refuses = isinstance(error, ResponseError)
        if self.answers:
            self.answers = False
            log.warning("redis_away", error=str(error) or type(error).__name__)

    def answered(self, *, wrote: bool) -> None:
        """Note that Redis answers, and whether it has taken something."""
        if not self.answers and (wrote or not self._refuses):
            self.answers = True
            log.info("redis_back")

    @property
    def refuses(self) -> bool:
        """Say whether Redis answers but has not taken what it was last given."""
        return not self.answers and self._refuses

    @contextmanager
    def asked(self, *, writes: bool = False) -> Iterator[None]:
        """Raise ``Unavailable`` where Redis does not do what the block asks of it."""
        try:
            yield
        except AWAY as error:
            self.lost(error)
            raise Unavailable(
                f"Redis cannot be used: {str(error) or type(error).__name__}"
            ) from error
        self.answered(wrote=writes)
