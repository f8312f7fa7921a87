"""Say whether this process can do its work, part by part."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import structlog

from homeroom.db.database import Database
from homeroom.errors import HomeroomError

log = structlog.get_logger(__name__)

PROBE_SECONDS = 3.0
Probe = Callable[[], Awaitable[str | None]]
"""Return None if all is well, else a sentence on what is not."""


@dataclass(frozen=True, slots=True)
class CheckResult:
    """How one part is. ``failed`` is a part without which nothing works."""

    status: Literal["ok", "degraded", "failed"]
    detail: str | None = None


@dataclass(frozen=True, slots=True)
class Readiness:
    """How all parts are."""

    checks: Mapping[str, CheckResult]

    @property
    def is_ready(self) -> bool:
        """Say whether requests should be sent here."""
        return all(check.status != "failed" for check in self.checks.values())

    @property
    def status(self) -> Literal["ok", "degraded"]:
        """Return the word for it, for a process that is ready."""
        return "ok" if all(c.status == "ok" for c in self.checks.values()) else "degraded"


class Health:
    """Ask every part how it is. Only the database and its schema are vital."""

    def __init__(
        self,
        db: Database,
        head: str,
        probes: Mapping[str, Probe] | None = None,
        *,
        is_newer: Callable[[str], bool] = lambda _: False,
    ) -> None:
        """Take the database, the schema it has to be at, and parts that may be ill meanwhile.

        ``head`` is what ``migrate.head()`` returns; ``is_newer`` says whether another schema is a
        later release's, which will do as well.
        """
        self._db, self._head, self._probes = db, head, dict(probes or {})
        self._is_newer = is_newer

    def add(self, name: str, probe: Probe) -> None:
        """Ask one more part."""
        self._probes[name] = probe

    async def ready(self) -> Readiness:
        """Ask all parts at once; one that does not answer in three seconds is ill."""
        vital: dict[str, Probe] = {"database": self._database, "migrations": self._migrations}
        probes = {**vital, **self._probes}
        details = await asyncio.gather(*(_ask(name, probe) for name, probe in probes.items()))
        checks = {}
        for name, detail in zip(probes, details, strict=True):
            if detail is None:
                checks[name] = CheckResult("ok")
            else:
                checks[name] = CheckResult("failed" if name in vital else "degraded", detail)
        return Readiness(checks)

    async def _database(self) -> str | None:
        await self._db.ping()
        return None

    async def _migrations(self) -> str | None:
        async with self._db.read() as tx:
            rows = await tx.fetch("SELECT version_num FROM alembic_version")
        current = rows[0][0] if rows else None
        if current == self._head or (current is not None and self._is_newer(current)):
            return None  # a later release has upgraded it and will soon be here as well
        return f"The schema is at {current}, this release needs {self._head}: homeroom db upgrade."


async def _ask(name: str, probe: Probe) -> str | None:
    try:
        async with asyncio.timeout(PROBE_SECONDS):
            return await probe()
    except TimeoutError:
        return f"No answer within {PROBE_SECONDS:g} seconds."
    except HomeroomError as error:
        return error.message
    except Exception:
        log.exception("health_probe_failed", check=name)
        return "The check itself failed; the log has more."
