"""Engine on BullMQ's queues in Redis; clients for Redis, also behind Sentinels."""

from __future__ import annotations

import asyncio
import base64
import os
import socket
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import structlog
from bullmq import Queue
from bullmq.job import Job as BullJob
from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel, SentinelConnectionPool
from redis.backoff import ConstantBackoff

from homeroom.errors import ConfigurationError, Unavailable
from homeroom.instant import MILLISECOND
from homeroom.jobs.engine import DispatchingEngine
from homeroom.jobs.engines.bullmq_fetcher import (
    REDIS_ERRORS,
    BullmqFetcher,
    BullmqTimings,
    RedisHealth,
)
from homeroom.jobs.engines.payload import REDIS_KEY_PREFIX, encode_job, to_redis_priority
from homeroom.jobs.job import Job
from homeroom.jobs.queue_controls import QueueControls
from homeroom.jobs.queue_runner import QueueRunner
from homeroom.jobs.queue_store import SharedLimits

log = structlog.get_logger(__name__)
MIN_REDIS_VERSION = (6, 2)
REDIS_RETRY_SECONDS = 0.05
_CALL_TIMEOUT_SECONDS = 3.0
_OPEN_TIMEOUT_SECONDS = 2.0
"""Longest that a start waits for Redis, which it does not need."""
_FETCHER_RESTART_SECONDS = 0.5
COMMAND_CONNECTIONS = 2
"""Connections of a process for all calls but the waiting ones.

Each queue has one more connection, on which its worker waits for jobs. Redis runs one command at a
time, so more connections would only wait there.
"""
_AGREED_PAUSE = "homeroom:paused"
"""Member of BullMQ's ``meta`` hash: the pause that row and Redis had when they were the same."""
_WORKER_NAME = f"homeroom.{socket.gethostname()}.{os.getpid()}"
_LOGGED_IDS = 5
_DISPATCHED_STATES = frozenset({"waiting", "prioritized", "active", "paused"})
"""States of BullMQ in which a worker will fetch the job without any further call."""
_BULLMQ_STATES = (
    "completed",
    "failed",
    "delayed",
    "active",
    "wait",
    "paused",
    "waiting-children",
    "prioritized",
)


@dataclass(frozen=True, slots=True)
class RedisAddress:
    """Address and credentials of Redis: ``url``, or ``sentinels`` with the rest."""

    url: str | None = None
    """``redis://`` or ``rediss://``, with user, password and database number."""
    sentinels: tuple[tuple[str, int], ...] = ()
    group: str = "mymaster"
    """The name under which the Sentinels know the server."""
    password: str | None = None
    sentinel_password: str | None = None
    tls: bool = False
    """TLS for the server and for the Sentinels."""
    ca_file: str | None = None
    """Certificate authority; None: those that the system trusts."""


class _BoundedSentinelPool(SentinelConnectionPool, BlockingConnectionPool):
    """Connections to the Sentinels' master; a call waits while all are in use."""


def connect_redis(
    address: RedisAddress,
    timeout_seconds: float,
    *,
    max_connections: int = COMMAND_CONNECTIONS,
    client_name: str | None = None,
) -> Redis:
    """Return a client; it connects when it is first used.

    ``timeout_seconds`` is the longest time for a response, and for a free connection. A call is
    tried twice, because an idle connection may have been closed. ``client_name`` is shown by
    ``CLIENT LIST``.
    """
    options: dict[str, Any] = {
        "decode_responses": True,
        "socket_timeout": timeout_seconds,
        "socket_connect_timeout": 2.0,
        "socket_keepalive": True,
        "retry": Retry(ConstantBackoff(REDIS_RETRY_SECONDS), 1),
        "client_name": client_name,
        "max_connections": max_connections,
        "timeout": timeout_seconds,
    }
    if not address.sentinels:
        url = address.url or "redis://127.0.0.1:6379"
        if address.ca_file is not None and url.startswith("rediss:"):
            options["ssl_ca_certs"] = address.ca_file
        return Redis.from_pool(BlockingConnectionPool.from_url(url, **options))
    tls: Mapping[str, Any] = {"ssl": True, "ssl_ca_certs": address.ca_file} if address.tls else {}
    sentinel: Callable[..., Sentinel] = Sentinel  # published without types
    sentinels = sentinel(
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
    client: Redis = sentinels.master_for(address.group, connection_pool_class=_BoundedSentinelPool)
    return client


async def disconnect_redis(client: Redis) -> None:
    """Close a client and its connections to Sentinels."""
    await client.aclose()
    pool = client.connection_pool
    if isinstance(pool, SentinelConnectionPool):
        for sentinel in pool.sentinel_manager.sentinels:
            await sentinel.aclose()


class BullmqEngine(DispatchingEngine):
    """Dispatch rows through BullMQ's queues in Redis (prefix ``{homeroom}``)."""

    name = "bullmq"

    def __init__(
        self,
        address: RedisAddress,
        *,
        lease: timedelta = timedelta(seconds=30),
        keep_failed: int = 200,
    ) -> None:
        """Prepare the engine; ``lease`` is that of the workers.

        ``keep_failed`` is the number of failed jobs of a queue that Bull Board still shows.
        """
        self._address, self._keep_failed = address, keep_failed
        self._timings = BullmqTimings.of(lease)
        self._client = connect_redis(address, _CALL_TIMEOUT_SECONDS)
        self._queues: dict[str, Queue] = {}
        self._dispatched: dict[str, set[str]] = {}
        self._on_lost: list[Callable[[str], None]] = []
        self._health = RedisHealth(self._dispatched.clear)

    async def open(self) -> None:
        """Refuse a node of a cluster; Redis may be down, and is asked later then.

        Raises ``ConfigurationError``.
        """
        try:
            async with asyncio.timeout(_OPEN_TIMEOUT_SECONDS):
                info: dict[str, Any] = await self._client.info("server")
        except (*REDIS_ERRORS, TimeoutError):
            return
        if info.get("redis_mode") == "cluster":
            await disconnect_redis(self._client)
            raise ConfigurationError(
                "Redis is a node of a Redis Cluster, which refuses the keys of other nodes.",
                hint="Name one Redis server outside of a cluster, or the Sentinels of one.",
            )

    async def close(self) -> None:
        """Disconnect."""
        await disconnect_redis(self._client)

    def undispatched(self, queue: str, ids: Sequence[str]) -> list[str]:
        """Return which of a queue's waiting rows this process has not dispatched."""
        dispatched = self._dispatched.get(queue, set())
        self._dispatched[queue] = dispatched.intersection(ids)
        return [job_id for job_id in ids if job_id not in dispatched]

    def on_dispatch_lost(self, call: Callable[[str], None]) -> Callable[[], None]:
        """Subscribe to queues of which a waiting row is undispatched again."""
        self._on_lost.append(call)
        return lambda: self._on_lost.remove(call)

    def _forget(self, queue: str, ids: Iterable[str]) -> None:
        self._dispatched.get(queue, set()).difference_update(ids)
        for call in list(self._on_lost):
            call(queue)

    async def dispatch(self, queue: str, jobs: Sequence[Job]) -> None:
        """Add waiting rows to the queue in Redis, unless they are there."""
        with self._health.track_call(writes=True):
            ran = [job.id for job in jobs if job.started_at is not None or job.last_error]
            states = await self._states(queue, ran)
            there = {job_id for job_id, state in states.items() if state in _DISPATCHED_STATES}
            # BullMQ adds no id that it has, so what is left of an earlier round is removed first.
            await self._remove(queue, [id for id in ran if states[id] not in (*there, "unknown")])
            await self._queue(queue).backend.addJobs(
                [self._encoded(queue, job) for job in jobs if job.id not in there]
            )
        self._dispatched.setdefault(queue, set()).update(job.id for job in jobs)

    def _encoded(self, queue: str, job: Job) -> BullJob:
        options = {
            "priority": to_redis_priority(job.priority),
            "timestamp": job.created_at // MILLISECOND,
            "attempts": 1,
            "removeOnComplete": True,
            "removeOnFail": {"count": self._keep_failed},
        }
        return BullJob(self._queue(queue), job.kind, encode_job(job), options, job.id)

    async def read_controls(self, queue: str) -> QueueControls:
        """Return the pause and the limits of a queue in Redis."""
        fields = ("paused", _AGREED_PAUSE, "concurrency", "max", "duration")
        with self._health.track_call():
            values: list[Any] = await self._client.hmget(
                self._queue(queue).keys["meta"], list(fields)
            )
        paused, agreed, *limits = values
        concurrency, rate_max, window_ms = (_to_number(each) for each in limits)
        window = None if window_ms is None else window_ms * MILLISECOND
        return QueueControls(
            paused is not None, agreed == "1", SharedLimits(concurrency, rate_max, window)
        )

    async def write_pause(self, queue: str, paused: bool | None, agreed: bool) -> None:
        """Pause or resume a queue in Redis; record the pause of both sides."""
        with self._health.track_call(writes=True):
            if paused is not None:
                await self._queue(queue).backend.pause(paused)
            meta = self._queue(queue).keys["meta"]
            await self._client.hset(meta, _AGREED_PAUSE, str(int(agreed)))

    async def reconcile(self, queue: str) -> None:
        """Find the dispatched rows that Redis has lost or will not offer to a worker."""
        dispatched = list(self._dispatched.get(queue, ()))
        if not dispatched and self._health.is_available:
            return
        with self._health.track_call():
            await self._client.ping()
            states = await self._states(queue, dispatched)
        lost = [job_id for job_id, state in states.items() if state not in _DISPATCHED_STATES]
        if lost:
            self._forget(queue, lost)
            if workers := (await self._foreign_workers()).get(queue):
                log.warning(
                    "jobs_taken_by_foreign_worker",
                    queue=queue,
                    count=len(lost),
                    job_ids=lost[:_LOGGED_IDS],
                    workers=workers,
                )

    async def _foreign_workers(self) -> dict[str, list[str]]:
        """Return by queue the workers that other programs run, such as one in Node.

        They run Homeroom's jobs without their rows. Empty where Redis forbids CLIENT LIST.
        """
        try:
            with self._health.track_call():
                clients: list[dict[str, str]] = await self._client.client_list()
        except Unavailable:
            return {}
        found: dict[str, list[str]] = {}
        for client in clients:
            queue = foreign_worker_queue(client.get("name", ""))
            if queue is not None:
                found.setdefault(queue, []).append(f"{client['name']} at {client.get('addr')}")
        return found

    async def _states(self, queue: str, ids: Sequence[str]) -> dict[str, str]:
        if not ids:
            return {}
        scripts = self._queue(queue).backend.scripts
        keys = scripts.getKeys(list(_BULLMQ_STATES))
        async with self._client.pipeline(transaction=False) as pipe:
            for job_id in ids:
                await scripts.commands["getStateV2"](
                    keys=keys, args=[job_id, scripts.toKey(job_id)], client=pipe
                )
            return dict(zip(ids, await pipe.execute(), strict=True))

    async def _remove(self, queue: str, ids: Sequence[str]) -> None:
        for job_id in ids:
            await self._queue(queue).backend.remove(job_id, False)

    def _queue(self, name: str) -> Queue:
        if name not in self._queues:
            self._queues[name] = Queue(
                name, {"connection": self._client, "prefix": REDIS_KEY_PREFIX}
            )
        return self._queues[name]

    async def fault(self) -> str | None:
        """Return why Redis may lose jobs or refuse writes, None if it is usable."""
        with self._health.track_call():
            info: dict[str, Any] = await self._client.info()
        version = str(info.get("redis_version", "0"))
        numbers = tuple(int(part) for part in version.split(".")[:2] if part.isdecimal())
        if numbers < MIN_REDIS_VERSION:
            return f"Redis has version {version}, and 6.2 is the oldest that works. Upgrade Redis."
        if info.get("maxmemory") and info.get("maxmemory_policy") != "noeviction":
            return (
                "Redis may delete jobs when its memory is full. Set its maxmemory-policy to"
                f" noeviction; it is {info.get('maxmemory_policy')}."
            )
        if info.get("role") == "slave" and info.get("slave_read_only"):
            return "Redis is a read-only replica. Use the address of its master."
        if info.get("maxmemory") and info["used_memory"] >= info["maxmemory"]:
            return (
                f"Redis is full: it uses {info['used_memory']:,} of {info['maxmemory']:,} bytes."
                " Raise its maxmemory."
            )
        if self._health.refuses_writes:
            return "Redis answers, but refused the last write. Its log says why."
        if others := await self._foreign_workers():
            names = ", ".join(sorted(others))
            return (
                f"Workers that are not Homeroom's take jobs of the queue {names}, so that"
                " Homeroom does not run them. Stop those workers: CLIENT LIST of Redis shows them."
            )
        return None

    async def work(self, queue_runner: QueueRunner) -> None:
        """Run BullMQ's worker until the queue runner stops and all runs have ended."""
        while not queue_runner.stopping:
            fetcher = BullmqFetcher(
                queue_runner, self._health, self._timings, self._keep_failed, self._forget
            )
            waiting_client = connect_redis(
                self._address,
                self._timings.response_timeout_seconds,
                client_name=f"{worker_client_name(queue_runner.queue)}:w:{_WORKER_NAME}",
            )
            try:
                await fetcher.run(self._client, waiting_client)
            finally:
                await disconnect_redis(waiting_client)
            if not queue_runner.stopping:  # Redis does not answer: try again after a pause
                await asyncio.sleep(_FETCHER_RESTART_SECONDS)


def worker_client_name(queue: str) -> str:
    """Return the name by which BullMQ for Node finds the workers of a queue.

    BullMQ for Python leaves the queue as it is there, so Bull Board would show no worker.
    """
    return f"{REDIS_KEY_PREFIX}:{base64.b64encode(queue.encode()).decode()}"


def foreign_worker_queue(client_name: str) -> str | None:
    """Return the queue from which another program's client fetches, else None."""
    start = f"{REDIS_KEY_PREFIX}:"
    if not client_name.startswith(start):
        return None
    queue, separator, worker = client_name.removeprefix(start).partition(":")
    is_worker = not separator or worker.startswith("w:")  # others listen to events
    if not is_worker or worker.startswith("w:homeroom."):
        return None
    try:
        return base64.b64decode(queue, validate=True).decode()
    except ValueError:
        return queue  # BullMQ for Python does not encode it


def _to_number(text: str | None) -> int | None:
    """Return a number of BullMQ's ``meta`` hash; None where there is none."""
    try:
        return None if text is None else int(float(text))
    except (ValueError, OverflowError):
        return None
