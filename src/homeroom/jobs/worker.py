"""The worker: gives an engine its desks, runs handlers, keeps leases, and stops in good order."""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from time import perf_counter

import structlog

from homeroom.clock import Clock, microseconds
from homeroom.db.database import ANYTHING, Database, Lane
from homeroom.db.group_commit import GroupCommit, Limits
from homeroom.db.tx import Tx
from homeroom.errors import HomeroomError
from homeroom.jobs import queue_store
from homeroom.jobs.claim import (
    Claim,
    Gate,
    Holder,
    cancelled_among,
    claim_next,
    claim_one,
    renew,
)
from homeroom.jobs.desk import Accept, ClaimNext, ClaimOne, QueueDesk
from homeroom.jobs.dispatcher import Dispatcher
from homeroom.jobs.engine import DispatchingEngine, Engine
from homeroom.jobs.enqueue import JOBS_TOPIC, enqueue
from homeroom.jobs.handler import Registry
from homeroom.jobs.job import Job
from homeroom.jobs.outcome import Retry
from homeroom.jobs.running import STOP_PATIENCE_SECONDS, Run, Stop
from homeroom.jobs.settle import JOB_TOPIC, Ending, settle
from homeroom.tasks import cancel

log = structlog.get_logger(__name__)
DEFAULT_CONCURRENCY = 3
LEASE = timedelta(seconds=30)
GRACE = timedelta(seconds=20)
WATCH_SECONDS = 1.0
"""How often cancellations are looked for where no hint came (another process asked)."""
_SAVE_RETRY_SECONDS = 1.0
_AFTER_GRACE_SECONDS = 2.0
"""For what the database is asked at the end, which takes milliseconds where it answers."""
"""How long to wait before an outcome is saved again when the database is away."""

Observe = Callable[[str, str, float], None]
"""Told of each run that ended here: its kind, how (``done``, ``retry`` ...), and its seconds."""
Item = ClaimNext | ClaimOne | Accept | Ending
Answer = tuple[list[Claim], Gate] | Job | None


class Worker:
    """Run the jobs of all queues that the registry knows, in this process's event loop."""

    def __init__(
        self,
        db: Database,
        registry: Registry,
        engine: Engine,
        *,
        clock: Clock | None = None,
        concurrency: Mapping[str, int] | int = DEFAULT_CONCURRENCY,
        lease: timedelta = LEASE,
        grace: timedelta = GRACE,
        worker_id: str | None = None,
        poll: timedelta = timedelta(seconds=1),
        on_stuck: Callable[[str], None] | None = None,
        observe: Observe | None = None,
    ) -> None:
        """Take how many jobs of a queue run at once (a number for all, or by queue).

        ``lease`` is how long a job stays with a worker that gives no sign, ``grace`` how long a
        stop waits for running jobs, ``poll`` how often the table is asked where no hint came.
        """
        self._db, self._registry, self._engine = db, registry, engine
        self._clock = clock or db.clock
        self.id = worker_id or f"{socket.gethostname()}.{os.getpid()}.{secrets.token_hex(3)}"
        self._holder = Holder(self.id, tuple(registry.kinds()), microseconds(lease))
        self._lease, self._grace, self._observe = lease, grace, observe
        self._poll = poll
        self._runs: dict[str, Run] = {}
        self._renewed_at = self._clock.now()
        self._commits: GroupCommit[Item, Answer] = GroupCommit(
            db, Lane.JOBS, self._apply, name="jobs", limits=Limits(), on_stuck=on_stuck
        )
        self._tokens = 0
        self._stop = asyncio.Event()
        self._hurries = False
        """Whether it was asked to stop and the grace has passed."""
        self._look = asyncio.Event()
        self.started = asyncio.Event()
        """Set once the worker claims."""
        self._desks = {
            queue: QueueDesk(
                queue,
                _wanted(concurrency, queue),
                poll.total_seconds(),
                self._commits,
                self._run_claim,
                db,
                registry,
            )
            for queue in registry.queues()
        }

    @property
    def running(self) -> list[str]:
        """Return the ids of the jobs that run here."""
        return sorted(self._runs)

    async def run(self) -> None:
        """Work until ``stop`` is called and what runs has ended or was handed back."""
        async with self._db.write(Lane.JOBS) as tx:
            await queue_store.declare(tx, list(self._desks))
            await self._register(tx)
        forget = self._db.subscribe(self._heard)
        commits = asyncio.create_task(self._commits.run())
        watch = asyncio.create_task(self._watch())
        desks = [asyncio.create_task(self._engine.work(desk)) for desk in self._desks.values()]
        dispatching = asyncio.create_task(self._dispatch())
        self.started.set()
        log.info("worker_started", worker=self.id, engine=self._engine.name)
        try:
            await self._until_stopped(desks)
        finally:
            await cancel(*desks, watch, dispatching)
            self._commits.close()
            await commits
            forget()
            await self._unregister()
            log.info("worker_stopped", worker=self.id)

    async def _dispatch(self) -> None:
        """Tell an engine that has to be told which rows wait, for as long as this worker runs."""
        if isinstance(self._engine, DispatchingEngine):
            await Dispatcher(self._db, self._registry, self._engine, self._poll).run()

    def stop(self) -> None:
        """Ask the worker to stop; ``run`` returns when it has."""
        self._stop.set()

    async def _until_stopped(self, desks: Sequence[asyncio.Task[None]]) -> None:
        stop = asyncio.create_task(self._stop.wait())
        try:
            done, _ = await asyncio.wait([stop, *desks], return_when=asyncio.FIRST_COMPLETED)
        finally:
            stop.cancel()
        for desk in self._desks.values():
            desk.close()
        for task in done - {stop}:
            task.result()  # an engine that ends before it was asked to has failed
        if not desks:
            return
        _, late = await asyncio.wait(desks, timeout=self._grace.total_seconds())
        if late:
            self._hurries = True
            for run in list(self._runs.values()):
                run.stop(Stop.SHUTDOWN)
            # A handler has its time to end, and is handed back; without one it is only claims.
            patience = STOP_PATIENCE_SECONDS + 1.0 if self._runs else _AFTER_GRACE_SECONDS
            _, late = await asyncio.wait(late, timeout=patience)
        if late:  # the database hangs: what it was to be told is left to the lease
            self._commits.close()
            await self._db.interrupt()
            await asyncio.wait(late, timeout=_AFTER_GRACE_SECONDS)

    # What the database is asked for, gathered into one commit.

    async def _apply(self, tx: Tx, items: Sequence[Item]) -> list[Answer]:
        """Settle what has ended, then claim what is next, in one transaction."""
        endings = [item for item in items if isinstance(item, Ending)]
        jobs = iter(await settle(tx, self._registry, endings) if endings else ())
        answers: list[Answer] = []
        for item in items:
            if isinstance(item, Ending):
                answers.append(next(jobs))
                continue
            self._tokens += 1
            token = f"{self.id}.{self._tokens}"
            if isinstance(item, ClaimNext):
                answers.append(await claim_next(tx, self._holder, item.queue, item.limit, token))
                continue
            if isinstance(item, Accept):
                taken = item.taken
                await enqueue(tx, taken.args, id=taken.id, priority=taken.priority)
                job_id = taken.id
            else:
                job_id = item.job_id
            answers.append(await claim_one(tx, self._holder, item.queue, job_id, token))
        return answers

    async def _run_claim(
        self, claim: Claim, handled: Callable[[], None], stopping: bool
    ) -> Job | None:
        """Run a claimed row and save how it ended; None where it was settled elsewhere."""
        run = Run(self._db, self._registry, claim)
        self._runs[claim.job.id] = run
        started = perf_counter()
        try:
            ending = run.hand_back() if stopping else await run.handle()
        finally:
            handled()
            if self._runs.get(claim.job.id) is run:
                del self._runs[claim.job.id]
        if self._observe is not None:
            ended = ending.ended if ending is not None else run.settled
            how = "lost" if ended is None else type(ended).__name__.lower()
            self._observe(claim.job.kind, how, perf_counter() - started)
        return None if ending is None else await self._save(ending)

    async def _save(self, ending: Ending) -> Job | None:
        """Commit how a run ended, for as long as it takes; a lost lease ends the effort.

        So does a stop whose grace has passed: then the job is one of a worker that has died.
        """
        attempt = ending
        while True:
            try:
                job = await self._commits.put(attempt)
                if job is None:
                    log.warning("job_lease_lost", job=ending.job_id)
                return job if isinstance(job, Job) else None
            except HomeroomError as error:
                if self._commits.stuck or self._hurries:
                    log.warning("job_outcome_not_saved", job=ending.job_id, error=error.message)
                    return None  # the process is about to go; the lease will end
                await asyncio.sleep(_SAVE_RETRY_SECONDS)
            except Exception as error:
                log.exception("job_outcome_refused", job=ending.job_id)
                if attempt is ending:
                    reason = f"the outcome could not be saved: {error}"
                    attempt = Ending(ending.job_id, ending.token, Retry(reason))
                elif attempt.announce:
                    attempt = Ending(ending.job_id, ending.token, attempt.ended, announce=False)
                else:
                    return None  # the lease will end, and upkeep tries again

    # Leases, cancellation, heartbeat.

    def _heard(self, topics: Sequence[tuple[str, str]]) -> None:
        for topic, name in topics:
            if topic == JOBS_TOPIC and name in self._desks:
                self._desks[name].wake.set()
            elif topic == JOB_TOPIC and name in self._runs:
                self._look.set()
            elif topic == ANYTHING:
                self._look.set()
                for desk in self._desks.values():
                    desk.wake.set()

    async def _watch(self) -> None:
        """Renew leases at a third of their length; look for cancellations once a second."""
        loop = asyncio.get_running_loop()
        pause = min(WATCH_SECONDS, self._lease.total_seconds() / 6)
        while True:
            timer = loop.call_later(pause, self._look.set)
            await self._look.wait()
            timer.cancel()
            self._look.clear()
            try:
                await self.check()
            except HomeroomError as error:
                log.warning("worker_watch_failed", worker=self.id, error=error.message)
                self._give_up_ended_leases()
            except (
                Exception
            ):  # nobody else renews: a watch that ended would have all jobs run twice
                log.exception("worker_watch_failed", worker=self.id)
                self._give_up_ended_leases()

    async def check(self) -> None:
        """Renew leases if it is time, and stop runs that were cancelled or lost."""
        if self._clock.now() - self._renewed_at >= microseconds(self._lease) // 3:
            await self._renew()
        elif self._runs:
            held = list(self._runs)
            async with self._db.read() as tx:
                for job_id in await cancelled_among(tx, held):
                    self._stop_run(job_id, Stop.CANCELLED)

    async def _renew(self) -> None:
        held = dict(self._runs)
        async with self._db.write(Lane.JOBS) as tx:
            still = await renew(
                tx, self._holder, [(job_id, run.claim.token) for job_id, run in held.items()]
            )
            await self._register(tx)
        self._renewed_at = tx.now
        for job_id, run in held.items():
            if self._runs.get(job_id) is not run:
                continue  # it has ended meanwhile
            if job_id not in still:
                run.stop(Stop.LEASE_LOST)
            elif still[job_id]:
                run.stop(Stop.CANCELLED)

    def _give_up_ended_leases(self) -> None:
        """Stop runs whose lease has ended while the database was away: others may have them."""
        lease = microseconds(self._lease)
        for run in list(self._runs.values()):
            held_from = max(run.job.started_at or 0, self._renewed_at)
            if self._clock.now() > held_from + lease:
                run.stop(Stop.LEASE_LOST)

    def _stop_run(self, job_id: str, why: Stop) -> None:
        run = self._runs.get(job_id)
        if run is not None:
            run.stop(why)

    async def _register(self, tx: Tx) -> None:
        sizes = {queue: desk.concurrency for queue, desk in self._desks.items()}
        await queue_store.heartbeat(tx, self.id, socket.gethostname(), os.getpid(), sizes)

    async def _unregister(self) -> None:
        try:
            async with asyncio.timeout(_AFTER_GRACE_SECONDS), self._db.write(Lane.JOBS) as tx:
                await queue_store.forget_worker(tx, self.id)
        except (HomeroomError, TimeoutError) as error:
            log.warning("worker_not_unregistered", worker=self.id, error=str(error))


def _wanted(concurrency: Mapping[str, int] | int, queue: str) -> int:
    if isinstance(concurrency, int):
        return concurrency
    return concurrency.get(queue, DEFAULT_CONCURRENCY)
