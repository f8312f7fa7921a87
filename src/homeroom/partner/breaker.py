"""Circuit breaker of a partner: when it opens, is probed and closes again (pure).

Instants and spans are microseconds. Decision 0022 gives the reasons for the numbers.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from homeroom.instant import SECOND

BreakerState = Literal["closed", "away", "refused"]
"""``away``: the partner does not answer. ``refused``: it answers 401 or 403 to all."""
FAILURES_TO_OPEN = 5
FIRST_PROBE = 5 * SECOND
"""Wait before the first probe; it doubles with each one, up to ``EARLY_PROBES``."""
EARLY_PROBES = 60 * SECOND
LATE_PROBES = 300 * SECOND
"""Interval of the probes of a partner that has been away for ``EARLY``."""
EARLY = 3_600 * SECOND
LONGEST_BURST = 2 * SECOND
"""Time for which unused releases add up, so that a late tick does not slow the backlog down."""
_REFUSALS = frozenset({401, 403})


@dataclass(frozen=True, slots=True)
class Breaker:
    """The breaker of one partner, as its row states."""

    name: str
    state: BreakerState = "closed"
    failures: int = 0
    """Failures in a row."""
    opened_at: int | None = None
    probe_at: int | None = None
    """The instant from which one call may probe an open breaker."""
    probes: int = 0
    closed_at: int = 0
    """The instant of the last close; jobs that failed before it need wait no longer."""
    released_at: int = 0
    """The instant up to which the rate of released jobs is used up."""
    last_error: str | None = None
    last_status: int | None = None

    @property
    def is_open(self) -> bool:
        """Return whether calls have to wait."""
        return self.state != "closed"

    @property
    def is_clean(self) -> bool:
        """Return whether a success changes nothing."""
        return self.state == "closed" and self.failures == 0


def failure_state(kind: str, status: int | None) -> BreakerState | None:
    """Return the state that failures of a kind lead to; None: they lead to none.

    ``kind`` is a ``FailureKind``. Another 4xx is about one request, and an unreadable response
    comes from a partner that runs.
    """
    if kind in {"unreachable", "timed out", "lost"}:
        return "away"
    if kind != "refused" or status is None:
        return None
    if status in _REFUSALS:
        return "refused"
    return "away" if status >= 500 or status == 429 else None


def probe_interval(probes: int, open_for: int) -> int:
    """Return the time until the next probe, after a number of probes."""
    if open_for >= EARLY:
        return LATE_PROBES
    return min(FIRST_PROBE << min(probes, 10), EARLY_PROBES)


def fail(
    breaker: Breaker,
    state: BreakerState,
    now: int,
    error: str,
    status: int | None,
    failures_to_open: int = FAILURES_TO_OPEN,
) -> Breaker:
    """Return the breaker after a failure that leads to ``state``."""
    failed = replace(breaker, failures=breaker.failures + 1, last_error=error, last_status=status)
    if breaker.is_open:
        return replace(failed, state=state)
    if failed.failures < failures_to_open:
        return failed
    return replace(
        failed, state=state, opened_at=now, probe_at=now + FIRST_PROBE, probes=0, released_at=0
    )


def close(breaker: Breaker, now: int) -> Breaker:
    """Return the breaker after a success, or after an operator has closed it."""
    if not breaker.is_open:
        return replace(breaker, failures=0)
    return replace(
        breaker,
        state="closed",
        failures=0,
        opened_at=None,
        probe_at=None,
        probes=0,
        closed_at=now,
        released_at=now,
    )


def is_probe_due(breaker: Breaker, now: int) -> bool:
    """Return whether an open breaker waits for a call that probes the partner.

    No probe is planned later than ``LATE_PROBES`` from now, but by a clock that was ahead.
    """
    if not breaker.is_open or breaker.probe_at is None:
        return False
    return not now < breaker.probe_at <= now + LATE_PROBES


def may_release_probe(breaker: Breaker, now: int) -> bool:
    """Return whether a job may be released to probe; one in ``FIRST_PROBE``."""
    is_early = breaker.released_at <= now < breaker.released_at + FIRST_PROBE
    return is_probe_due(breaker, now) and not is_early


def releasable(breaker: Breaker, rate: float, now: int) -> tuple[int, int]:
    """Return how many jobs may start now, and ``released_at`` once they have.

    ``rate`` is jobs per second.
    """
    span = SECOND / rate
    earliest = now - max(LONGEST_BURST, round(span))
    is_ahead = breaker.released_at > now  # by a clock that was wrong
    used_up = earliest if is_ahead else max(breaker.released_at, earliest)
    count = int((now - used_up) / span)
    return max(count, 0), used_up + round(count * span)
