"""Where Redis is, and clients for it: one server by its URL, or one that Sentinels watch over."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel, SentinelConnectionPool
from redis.backoff import ConstantBackoff

RECONNECT_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class Address:
    """Where Redis is and how it is entered; ``url``, or ``sentinels`` with the rest."""

    url: str | None = None
    """``redis://`` or ``rediss://``, with user, password and number of the database."""
    sentinels: tuple[tuple[str, int], ...] = ()
    group: str = "mymaster"
    """The name under which the Sentinels know the server."""
    password: str | None = None
    sentinel_password: str | None = None
    tls: bool = False
    """For the server behind the Sentinels and for them alike."""
    ca_file: str | None = None
    """Who signed the certificates; None: those that the system trusts."""


def connect(address: Address, timeout_seconds: float) -> Redis:
    """Return a client; it connects when it is first used.

    ``timeout_seconds`` is how long an answer may take. A call is tried twice, because a connection
    that was idle may have been closed meanwhile.
    """
    options: dict[str, Any] = {
        "decode_responses": True,
        "socket_timeout": timeout_seconds,
        "socket_connect_timeout": 2.0,
        "socket_keepalive": True,
        "retry": Retry(ConstantBackoff(RECONNECT_SECONDS), 1),
    }
    if not address.sentinels:
        url = address.url or "redis://127.0.0.1:6379"
        if address.ca_file is not None and url.startswith("rediss:"):
            options["ssl_ca_certs"] = address.ca_file
        return Redis.from_url(url, **options)
    tls: Mapping[str, Any] = {"ssl": True, "ssl_ca_certs": address.ca_file} if address.tls else {}
    sentinel: Callable[..., Sentinel] = Sentinel  # published without types
    watchers = sentinel(
        list(address.sentinels),
        sentinel_kwargs={
            "password": address.sentinel_password,
            "socket_timeout": 2.0,
            "socket_connect_timeout": 2.0,
            **tls,
        },
        password=address.password,
        **options,
        **tls,
    )
    client: Redis = watchers.master_for(address.group)
    return client


async def disconnect(client: Redis) -> None:
    """Close a client and, where Sentinels led to its server, the connections to them."""
    await client.aclose()
    pool = client.connection_pool
    if isinstance(pool, SentinelConnectionPool):
        for sentinel in pool.sentinel_manager.sentinels:
            await sentinel.aclose()
