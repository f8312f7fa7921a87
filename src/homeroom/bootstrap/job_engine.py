"""The job engine of the settings: BullMQ on Redis, or the database alone."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib import import_module
from typing import Any

from homeroom.bootstrap.partners import secret_text
from homeroom.errors import ConfigurationError, Unavailable
from homeroom.jobs.engine import Engine, SqlEngine
from homeroom.settings import Settings


@asynccontextmanager
async def open_engine(settings: Settings) -> AsyncIterator[Engine]:
    """Open the engine; Redis may be unreachable. Raises ``ConfigurationError``."""
    engine = _build_redis_engine(settings) if settings.uses_redis else SqlEngine()
    await engine.open()
    try:
        yield engine
    finally:
        await engine.close()


async def check_redis(settings: Settings) -> str | None:
    """Return why Redis cannot be used, None if it can. Changes nothing there."""
    async with open_engine(settings) as engine:
        try:
            return await engine.fault()
        except Unavailable as error:
            return error.message


def _build_redis_engine(settings: Settings) -> Engine:
    bullmq = _import_bullmq_engine()
    ca_file = settings.redis_ca_file
    address = bullmq.RedisAddress(
        url=settings.queue,
        sentinels=tuple(_split_host_port(each) for each in settings.redis_sentinels),
        group=settings.redis_sentinel_name,
        password=secret_text(settings.redis_password),
        sentinel_password=secret_text(settings.redis_sentinel_password),
        tls=settings.redis_tls,
        ca_file=None if ca_file is None else str(ca_file),
    )
    engine: Engine = bullmq.BullmqEngine(
        address, lease=settings.job_lease, keep_failed=settings.jobs_keep_failed
    )
    return engine


def _import_bullmq_engine() -> Any:
    """Import the engine that needs the optional extra ``redis``."""
    try:
        return import_module("homeroom.jobs.engines.bullmq")
    except ImportError as error:
        raise ConfigurationError(
            f"Jobs on Redis need packages that are not installed ({error.name}).",
            hint="Install them with: pip install 'homeroom[redis]'",
        ) from error


def _split_host_port(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    return host, int(port)
