"""What a handler may return; the kernel does the rest (pure)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any


@dataclass(frozen=True, slots=True)
class Done:
    """The work is done; ``result`` is kept with the job and must be JSON."""

    result: Any = None


@dataclass(frozen=True, slots=True)
class Retry:
    """This attempt failed and another may succeed; ``after`` overrides the backoff."""

    error: str
    after: timedelta | None = None


@dataclass(frozen=True, slots=True)
class Snooze:
    """Not now: run again after a while; no attempt is spent."""

    after: timedelta
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Fail:
    """This cannot succeed; no retry follows. An operator may still retry it by hand."""

    reason: str


@dataclass(frozen=True, slots=True)
class Cancel:
    """It is not wanted any more: failed with the reason ``cancelled``."""

    reason: str = "cancelled"


Outcome = Done | Retry | Snooze | Fail | Cancel
