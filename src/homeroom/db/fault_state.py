"""Faults of the database that a process has met: causes, beginnings and ends."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass

import structlog

from homeroom.errors import DatabaseDamaged, DatabaseFault

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class _Fault:
    error: DatabaseFault
    began_at: float
    failures: int = 0


class FaultState:
    """The current faults, by cause.

    Each is logged once when it begins and once when it is over: a full disk fails every
    transaction, several times a second.
    """

    def __init__(self) -> None:
        """Start without a fault."""
        self._faults: dict[str, _Fault] = {}
        self.failures: Counter[str] = Counter()
        """Failed transactions of this process, by the code of their cause."""

    @property
    def current(self) -> list[DatabaseFault]:
        """Return the current faults, the latest first."""
        return [fault.error for fault in reversed(self._faults.values())]

    def record(self, error: BaseException) -> None:
        """Count a failure, and log the first one of its cause; ignore other errors."""
        if not isinstance(error, DatabaseFault):
            return
        self.failures[error.code] += 1
        fault = self._faults.get(error.code)
        if fault is None:
            fault = self._faults[error.code] = _Fault(error, time.monotonic())
            log.error("database_fault_began", cause=error.code, error=error.message, fix=error.hint)
        fault.failures += 1

    def end(self) -> None:
        """Record that a transaction was stored after the faults.

        Damage stays until the process ends: other pages of the file can be written all the same.
        """
        for code, fault in list(self._faults.items()):
            if isinstance(fault.error, DatabaseDamaged):
                continue
            del self._faults[code]
            log.warning(
                "database_fault_ended",
                cause=code,
                seconds=round(time.monotonic() - fault.began_at, 1),
                failures=fault.failures,
            )
