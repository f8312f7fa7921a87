"""Exchange metrics with the other processes of one server, so that any of them answers for all.

Each listens on a Unix socket in a folder that only this user may enter. Whoever connects is given a
snapshot, and that is all there is to it: no request, no state, nothing to keep in step.
"""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

import msgspec
import structlog

from homeroom.monitoring.metrics import Metrics, Snapshot

log = structlog.get_logger(__name__)

PATIENCE_SECONDS = 1.0
"""How long a process is waited for; one that is busier than that is missing from the answer."""
_SUFFIX = ".metrics"


class Siblings:
    """The processes of one server, found by their sockets in a folder."""

    def __init__(self, folder: Path, name: str, metrics: Metrics) -> None:
        """Take the folder, the name of this process, unique in it, and what it counts."""
        self.name = name
        self._folder, self._metrics = folder, metrics
        self._closed = asyncio.Event()
        self.started = asyncio.Event()
        """Set once others can ask."""

    async def run(self) -> None:
        """Give snapshots of this process until ``close`` is called."""
        own = self._folder / f"{self.name}{_SUFFIX}"
        own.unlink(missing_ok=True)  # of the process that had this name before
        try:
            server = await asyncio.start_unix_server(self._give, own)
        except OSError as error:  # metrics are no reason not to serve
            log.warning("metrics_not_shared", error=str(error))
            await self._closed.wait()
            return
        self.started.set()
        async with server:
            await self._closed.wait()
        own.unlink(missing_ok=True)

    def close(self) -> None:
        """End ``run``."""
        self._closed.set()

    async def _give(self, _: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(msgspec.json.encode(self._metrics.snapshot(self.name)))
        with contextlib.suppress(OSError):
            await writer.drain()
            writer.close()
            await writer.wait_closed()

    async def others(self) -> list[Snapshot]:
        """Return snapshots of all processes but this one; those that do not answer are left out."""
        paths = sorted(self._folder.glob(f"*{_SUFFIX}"))
        asked = [_ask(path) for path in paths if path.name != f"{self.name}{_SUFFIX}"]
        return [found for found in await asyncio.gather(*asked) if found is not None]


async def _ask(path: Path) -> Snapshot | None:
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            reader, writer = await asyncio.open_unix_connection(path)
            try:
                return msgspec.json.decode(await reader.read(), type=Snapshot)
            finally:
                writer.close()
    except (OSError, TimeoutError, msgspec.DecodeError) as error:
        log.info("metrics_missing", process=path.stem, error=str(error))
        return None
