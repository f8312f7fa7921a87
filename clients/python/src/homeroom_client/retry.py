"""Classify answers and compute waits (pure): the same table as the TypeScript client."""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from enum import Enum

MAX_BACKOFF_SECONDS = 300.0
MAX_RETRY_AFTER_SECONDS = 900.0

# Faults of the address or of a proxy: they say nothing about the events.
ELSEWHERE = frozenset({404, 405, 407, 408, 421, 425, 429})
RETRIED_READS = frozenset({408, 425, 429})


class Verdict(Enum):
    """The consequence of an answer, or of none."""

    DELIVERED = "delivered"
    RETRY = "retry"
    """Send the same again later."""
    ACCESS = "access"
    """The token is missing, expired, or may not do this."""
    REFUSED = "refused"
    """The batch is too large, or an event of it spoils it: send fewer to find out which."""


def backoff_seconds(failures: int, draw: Callable[[], float] = random.random) -> float:
    """Return the wait after this many failures: full jitter below 1, 2, 4 ... 300 s."""
    ceiling = min(MAX_BACKOFF_SECONDS, 2.0 ** min(max(0, failures - 1), 20))
    return draw() * ceiling


def retry_after_seconds(
    header: str | None, draw: Callable[[], float] = random.random
) -> float | None:
    """Return the wait that a ``Retry-After`` asks for (seconds or an HTTP date), or None.

    It is at most 15 minutes, and up to a tenth longer so that clients do not return together.
    """
    if header is None:
        return None
    text = header.strip()
    if text.isascii() and text.isdigit():
        wait = float(text[:10])
    else:
        try:
            until = parsedate_to_datetime(text)
        except ValueError:
            return None
        if until.tzinfo is None:
            until = until.replace(tzinfo=UTC)
        wait = (until - datetime.now(UTC)).total_seconds()
    if wait < 0:
        return None
    return min(MAX_RETRY_AFTER_SECONDS, wait) * (1 + draw() / 10)


def classify_batch(status: int, is_result: bool) -> Verdict:
    """Return what follows from the answer to a batch of events.

    A success counts as delivery only if its body has results: a proxy's sign-in page is a 200 too.
    """
    if 400 <= status < 500 and status not in ELSEWHERE:
        return Verdict.ACCESS if status in (401, 403) else Verdict.REFUSED
    return Verdict.DELIVERED if status < 300 and is_result else Verdict.RETRY


def classify_request(status: int) -> Verdict:
    """Return what follows from the answer to any other request, which may be repeated."""
    if status in (401, 403):
        return Verdict.ACCESS
    if status in RETRIED_READS or status >= 500:
        return Verdict.RETRY
    return Verdict.DELIVERED if 200 <= status < 300 else Verdict.REFUSED
