"""The engine on BullMQ: Redis hands out the ids of waiting rows, and Node shares the queues.

Redis holds what may run now, up to a bound, and the last failed jobs for Bull Board. The row stays
the job (``jobs.engine``), so Redis may be emptied, restarted or lost whole.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from datetime import timedelta
from typing import Any

from bullmq import Queue
from bullmq.job import Job as BullJob

from homeroom.clock import MILLISECOND
from homeroom.jobs.engine import Desk, DispatchingEngine
from homeroom.jobs.engines.bullmq_worker import Fetcher, Pace
from homeroom.jobs.engines.envelope import PREFIX, seal, to_redis
from homeroom.jobs.engines.link import Link
from homeroom.jobs.engines.redis_client import Address, connect, disconnect
from homeroom.jobs.job import Job

OLDEST_REDIS = (6, 2)
_CALL_SECONDS = 3.0
_RESTART_SECONDS = 0.5
_IN_ORDER = frozenset({"waiting", "prioritized", "active", "paused"})
"""States of BullMQ in which a job will be looked at without anybody's help."""
_STATES = (
    "completed",
    "failed",
    "delayed",
    "active",
    "wait",
    "paused",
    "waiting-children",
    "prioritized",
)


class BullmqEngine(DispatchingEngine):
    """Dispatch rows through BullMQ's queues in Redis, under the prefix ``{homeroom}``."""

    name = "bullmq"

    def __init__(
        self,
        address: Address,
        *,
        lease: timedelta = timedelta(seconds=30),
        keep_failed: int = 200,
    ) -> None:
        """Take where Redis is, how long a silent worker keeps a job, and what Bull Board sees.

        ``keep_failed`` is how many failed jobs a queue keeps in Redis.
        """
        self._address, self._keep_failed = address, keep_failed
        self._pace = Pace.of(lease)
        self._client = connect(address, _CALL_SECONDS)
        self._queues: dict[str, Queue] = {}
        self._known: dict[str, set[str]] = {}
        self._lost: list[Callable[[str], None]] = []
        self._link = Link(self._known.clear)

    async def open(self) -> None:
        """Do nothing: Redis may be away, and is asked when it is needed."""

    async def close(self) -> None:
        """Disconnect."""
        await disconnect(self._client)

    def unknown(self, queue: str, ids: Sequence[str]) -> list[str]:
        """Return which of a queue's waiting rows were not dispatched from here."""
        known = self._known.get(queue, set())
        self._known[queue] = known.intersection(ids)
        return [job_id for job_id in ids if job_id not in known]

    def on_lost(self, call: Callable[[str], None]) -> Callable[[], None]:
        """Call this with a queue's name when one of its waiting rows is to be dispatched again."""
        self._lost.append(call)
        return lambda: self._lost.remove(call)

    def _forget(self, queue: str, ids: Iterable[str]) -> None:
        self._known.get(queue, set()).difference_update(ids)
        for call in list(self._lost):
            call(queue)

    async def dispatch(self, queue: str, jobs: Sequence[Job]) -> None:
        """Put waiting rows into the queue, unless they are there."""
        with self._link.asked(writes=True):
            ran = [job.id for job in jobs if job.started_at is not None or job.last_error]
            states = await self._states(queue, ran)
            there = {job_id for job_id, state in states.items() if state in _IN_ORDER}
            # What is left of an earlier go keeps its id, and BullMQ adds no id that it has.
            await self._remove(queue, [id for id in ran if states[id] not in (*there, "unknown")])
            await self._queue(queue).backend.addJobs(
                [self._sealed(queue, job) for job in jobs if job.id not in there]
            )
        self._known.setdefault(queue, set()).update(job.id for job in jobs)

    def _sealed(self, queue: str, job: Job) -> BullJob:
        options = {
            "priority": to_redis(job.priority),
            "timestamp": job.created_at // MILLISECOND,
            "attempts": 1,
            "removeOnComplete": True,
            "removeOnFail": {"count": self._keep_failed},
        }
        return BullJob(self._queue(queue), job.kind, seal(job), options, job.id)

    async def reconcile(self, queue: str) -> None:
        """Find out which dispatched rows Redis has lost or set aside."""
        known = list(self._known.get(queue, ()))
        if not known and self._link.answers:
            return
        with self._link.asked():
            await self._client.ping()
            states = await self._states(queue, known)
        lost = [job_id for job_id, state in states.items() if state not in _IN_ORDER]
        if lost:
            self._forget(queue, lost)

    async def _states(self, queue: str, ids: Sequence[str]) -> dict[str, str]:
        if not ids:
            return {}
        scripts = self._queue(queue).backend.scripts
        keys = scripts.getKeys(list(_STATES))
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
            self._queues[name] = Queue(name, {"connection": self._client, "prefix": PREFIX})
        return self._queues[name]

    async def fault(self) -> str | None:
        """Say why Redis may lose what it is given, or is too old; None if all is well."""
        with self._link.asked():
            info: dict[str, Any] = await self._client.info()
        version = str(info.get("redis_version", "0"))
        numbers = tuple(int(part) for part in version.split(".")[:2] if part.isdecimal())
        if numbers < OLDEST_REDIS:
            return f"Redis is of version {version}; 6.2 is the oldest that works"
        if info.get("maxmemory") and info.get("maxmemory_policy") != "noeviction":
            return (
                f"Redis may drop jobs when its memory is full: its maxmemory-policy is"
                f" {info.get('maxmemory_policy')}, and has to be noeviction"
            )
        if info.get("role") == "slave" and info.get("slave_read_only"):
            return "Redis is a replica that takes nothing; its master is wanted"
        if info.get("maxmemory") and info["used_memory"] >= info["maxmemory"]:
            return f"Redis is full: it has {info['used_memory']:,} of {info['maxmemory']:,} bytes"
        if self._link.refuses:
            return "Redis answers, and refused what it was last given"
        return None

    async def work(self, desk: Desk) -> None:
        """Let BullMQ's worker fetch from Redis until the desk stops and all runs have ended."""
        while not desk.stopping:
            fetcher = Fetcher(desk, self._link, self._pace, self._keep_failed, self._forget)
            client = connect(self._address, self._pace.answer_seconds)
            try:
                await fetcher.run(client)
            finally:
                await disconnect(client)
            if not desk.stopping:  # Redis is away: it is asked again
                await asyncio.sleep(_RESTART_SECONDS)
