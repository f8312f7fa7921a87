"""Exchange of metrics between the processes of one server.

Each process listens on a Unix socket in a folder that only its user may enter, and sends a snapshot
to every connection. The protocol has no requests and no state.
"""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

import msgspec
import structlog

from homeroom.monitoring.metrics import Metrics
from homeroom.monitoring.metrics_snapshot import MetricsSnapshot

log = structlog.get_logger(__name__)

PEER_TIMEOUT_SECONDS = 1.0
"""Time limit of one peer; the report omits a peer that does not answer in time."""
_SOCKET_SUFFIX = ".metrics"


class PeerMetrics:
    """Metrics of the other processes, found by their sockets in a folder."""

    def __init__(self, folder: Path, name: str, metrics: Metrics) -> None:
        """Publish ``metrics`` in ``folder`` under ``name``, which is unique there."""
        self.name = name
        self._folder, self._metrics = folder, metrics
        self._closed = asyncio.Event()
        self.started = asyncio.Event()
        """Set once peers can connect."""

    async def run(self) -> None:
        """Serve snapshots of this process until ``close`` is called."""
        own = self._folder / f"{self.name}{_SOCKET_SUFFIX}"
        own.unlink(missing_ok=True)  # left by a predecessor that was killed
        try:
            server = await asyncio.start_unix_server(self._send_snapshot, own)
        except OSError as error:  # a server without peer metrics still serves
            log.warning("peer_metrics_failed", error=str(error))
            await self._closed.wait()
            return
        self.started.set()
        async with server:
            await self._closed.wait()
        own.unlink(missing_ok=True)

    def close(self) -> None:
        """End ``run``."""
        self._closed.set()

    async def _send_snapshot(self, _: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(msgspec.json.encode(self._metrics.snapshot(self.name)))
        with contextlib.suppress(OSError):
            await writer.drain()
            writer.close()
            await writer.wait_closed()

    async def peer_snapshots(self) -> list[MetricsSnapshot]:
        """Return the snapshots of all peers that answer in time."""
        paths = sorted(self._folder.glob(f"*{_SOCKET_SUFFIX}"))
        requests = [
            _fetch_snapshot(path) for path in paths if path.name != f"{self.name}{_SOCKET_SUFFIX}"
        ]
        return [found for found in await asyncio.gather(*requests) if found is not None]


async def _fetch_snapshot(path: Path) -> MetricsSnapshot | None:
    try:
        async with asyncio.timeout(PEER_TIMEOUT_SECONDS):
            reader, writer = await asyncio.open_unix_connection(path)
            try:
                return msgspec.json.decode(await reader.read(), type=MetricsSnapshot)
            finally:
                writer.close()
    except (OSError, TimeoutError, msgspec.DecodeError) as error:
        log.info("peer_metrics_skipped", process=path.stem, error=str(error))
        return None
