"""Build the engine that the settings name: on Redis, or on the database alone."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib import import_module
from typing import Any

from homeroom.errors import ConfigurationError, Unavailable
from homeroom.jobs.engine import Engine
from homeroom.jobs.engines.sql import SqlEngine
from homeroom.settings import Settings
from homeroom.wiring.partners import secret


@asynccontextmanager
async def open_engine(settings: Settings) -> AsyncIterator[Engine]:
    """Open the engine of the settings; Redis may be away. Raises ``ConfigurationError``."""
    engine = _on_redis(settings) if settings.uses_redis else SqlEngine()
    await engine.open()
    try:
        yield engine
    finally:
        await engine.close()


async def redis_fault(settings: Settings) -> str | None:
    """Ask Redis; say why it cannot be used, None if all is well. Changes nothing there."""
    async with open_engine(settings) as engine:
        try:
            return await engine.fault()
        except Unavailable as error:
            return error.message


def _on_redis(settings: Settings) -> Engine:
    bullmq, redis_client = _extra("bullmq"), _extra("redis_client")
    ca_file = settings.redis_ca_file
    address = redis_client.Address(
        url=settings.queue,
        sentinels=tuple(_host_and_port(place) for place in settings.redis_sentinels),
        group=settings.redis_sentinel_name,
        password=secret(settings.redis_password),
        sentinel_password=secret(settings.redis_sentinel_password),
        tls=settings.redis_tls,
        ca_file=None if ca_file is None else str(ca_file),
    )
    engine: Engine = bullmq.BullmqEngine(
        address, lease=settings.job_lease, keep_failed=settings.jobs_keep_failed
    )
    return engine


def _extra(name: str) -> Any:
    """Import what needs the extra ``redis``, which an installation on the database has not."""
    try:
        return import_module(f"homeroom.jobs.engines.{name}")
    except ImportError as error:
        raise ConfigurationError(
            f"Jobs on Redis need packages that are not installed ({error.name}).",
            hint="Install them with: pip install 'homeroom[redis]'",
        ) from error


def _host_and_port(place: str) -> tuple[str, int]:
    host, _, port = place.rpartition(":")
    return host, int(port)
