"""The expiry of the TLS certificates that servers present."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

import structlog
from cryptography import x509

from homeroom.instant import DAY, from_datetime, to_datetime

log = structlog.get_logger(__name__)
READ_EVERY_SECONDS = 6 * 3_600.0
TIMEOUT_SECONDS = 10.0
_HTTPS_PORT = 443


@dataclass(frozen=True, slots=True, order=True)
class TlsServer:
    """A server by its name and port."""

    host: str
    port: int = _HTTPS_PORT

    def __str__(self) -> str:
        """Return the name, with a port that is not that of HTTPS."""
        return self.host if self.port == _HTTPS_PORT else f"{self.host}:{self.port}"


def https_servers(urls: Iterable[str]) -> set[TlsServer]:
    """Return the servers of the URLs that are HTTPS."""
    parts = [urlsplit(url) for url in urls]
    return {
        TlsServer(part.hostname, part.port or _HTTPS_PORT)
        for part in parts
        if part.scheme == "https" and part.hostname
    }


async def read_expiry(server: TlsServer) -> int:
    """Return when a server's certificate expires, in microseconds UTC.

    Nothing is sent over the connection, so an expired or unknown certificate is read as well.
    Raises OSError where the server is not reached or speaks no TLS, ValueError for a certificate
    that cannot be read.
    """
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    async with asyncio.timeout(TIMEOUT_SECONDS):
        _, writer = await asyncio.open_connection(
            server.host, server.port, ssl=context, server_hostname=server.host
        )
    try:
        peer: ssl.SSLObject = writer.get_extra_info("ssl_object")
        encoded = peer.getpeercert(binary_form=True)
    finally:
        writer.transport.abort()
    if encoded is None:
        raise ValueError("the server has no certificate")
    return from_datetime(x509.load_der_x509_certificate(encoded).not_valid_after_utc)


def describe_certificate(server: TlsServer, expires_at: int, now: int) -> str:
    """Return a sentence about a certificate that expires, or has expired."""
    day = to_datetime(expires_at).date().isoformat()
    if expires_at <= now:
        return f"The certificate of {server} expired on {day}."
    return f"The certificate of {server} expires on {day}, in {(expires_at - now) // DAY} days."


class CertificateWatch:
    """The expiries of some servers' certificates, read in the background."""

    def __init__(
        self, servers: Iterable[TlsServer], *, read_every_seconds: float | None = None
    ) -> None:
        """Read nothing yet."""
        self._servers = sorted(servers)
        self._read_every_seconds = (
            READ_EVERY_SECONDS if read_every_seconds is None else read_every_seconds
        )
        self._read_at = float("-inf")
        self._task: asyncio.Task[None] | None = None
        self._expiries: dict[TlsServer, int] = {}

    def known(self) -> Mapping[TlsServer, int]:
        """Return what is known now, and begin to read anew what is old.

        A server that is not reached keeps what was read before.
        """
        is_idle = self._task is None or self._task.done()
        if self._servers and is_idle and time.monotonic() >= self._read_at:
            self._read_at = time.monotonic() + self._read_every_seconds
            self._task = asyncio.get_running_loop().create_task(self._read_all())
        return self._expiries

    async def _read_all(self) -> None:
        for server in self._servers:
            try:
                self._expiries[server] = await read_expiry(server)
            except (OSError, TimeoutError, ValueError) as error:
                log.debug("certificate_unread", server=str(server), error=type(error).__name__)
