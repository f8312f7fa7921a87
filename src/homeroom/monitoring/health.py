"""Health checks of one process: database, schema, and the parts that are added."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import structlog

from homeroom.db.database import Database
from homeroom.errors import HomeroomError

log = structlog.get_logger(__name__)

Answer = TypeVar("Answer")
PROBE_SECONDS = 3.0
HealthProbe = Callable[[], Awaitable[str | None]]
"""Return None if the part works, else a sentence about the fault."""


@dataclass(frozen=True, slots=True)
class HealthCheckResult:
    """The state of one part. Only the database and its schema can be ``failed``."""

    status: Literal["ok", "degraded", "failed"]
    detail: str | None = None


@dataclass(frozen=True, slots=True)
class Readiness:
    """The states of all parts."""

    checks: Mapping[str, HealthCheckResult]

    @property
    def is_ready(self) -> bool:
        """Return whether this process can serve requests."""
        return all(check.status != "failed" for check in self.checks.values())

    @property
    def status(self) -> Literal["ok", "degraded"]:
        """Return ``ok`` or ``degraded`` for a process that is ready."""
        return "ok" if all(c.status == "ok" for c in self.checks.values()) else "degraded"


class Health:
    """Run all health checks. Only the database and its schema decide readiness."""

    def __init__(
        self,
        db: Database,
        head: str,
        probes: Mapping[str, HealthProbe] | None = None,
        *,
        is_newer: Callable[[str], bool] = lambda _: False,
    ) -> None:
        """Check ``db`` for the schema ``head``, and the parts in ``probes``.

        ``head`` is what ``migrate.head_revision()`` returns. ``is_newer`` returns whether another
        schema is a later release's, with which this release works too.
        """
        self._db, self._head, self._probes = db, head, dict(probes or {})
        self._is_newer = is_newer

    def add(self, name: str, probe: HealthProbe) -> None:
        """Add the check of one more part."""
        self._probes[name] = probe

    async def ready(self) -> Readiness:
        """Check all parts at once; one without an answer in three seconds has a fault."""
        required: dict[str, HealthProbe] = {
            "database": self._database,
            "migrations": self._migrations,
        }
        probes = {**required, **self._probes}
        details = await asyncio.gather(*(_run_probe(name, probe) for name, probe in probes.items()))
        checks = {}
        for name, detail in zip(probes, details, strict=True):
            if detail is None:
                checks[name] = HealthCheckResult("ok")
            else:
                checks[name] = HealthCheckResult(
                    "failed" if name in required else "degraded", detail
                )
        return Readiness(checks)

    async def _database(self) -> str | None:
        await self._db.ping()
        return None

    async def _migrations(self) -> str | None:
        async with self._db.read() as tx:
            rows = await tx.fetch("SELECT version_num FROM alembic_version")
        current = next((version for (version,) in rows), None)
        if current == self._head or (current is not None and self._is_newer(current)):
            return None  # a later release upgraded it during a rolling update
        return f"The schema is at {current}, this release needs {self._head}: homeroom db upgrade."


async def answer_within(seconds: float, call: Awaitable[Answer]) -> Answer:
    """Return the answer of a call, or raise TimeoutError without waiting for its end.

    A cancelled call of a database that hangs ends much later: it first tries to roll back.
    """
    running = asyncio.ensure_future(call)
    try:
        done, _ = await asyncio.wait([running], timeout=seconds)
    except asyncio.CancelledError:
        running.cancel()
        raise
    if done:
        return running.result()
    running.cancel()
    _abandoned.add(running)
    running.add_done_callback(_forget)
    raise TimeoutError


_abandoned: set[asyncio.Future[Any]] = set()
"""Calls that still have to end; the loop itself holds no reference to them."""


def _forget(ended: asyncio.Future[Any]) -> None:
    _abandoned.discard(ended)
    if not ended.cancelled():
        ended.exception()  # it was reported as a time-out


async def _run_probe(name: str, probe: HealthProbe) -> str | None:
    try:
        return await answer_within(PROBE_SECONDS, probe())
    except TimeoutError:
        return f"No answer within {PROBE_SECONDS:g} seconds."
    except HomeroomError as error:
        return error.message
    except Exception:
        log.exception("health_probe_failed", check=name)
        return "The check failed with an exception; the log has its traceback."
