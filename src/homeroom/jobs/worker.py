"""Runs jobs, renews leases, shuts down gracefully."""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from datetime import timedelta
from functools import partial
from time import perf_counter

import structlog

from homeroom.cancellation import cancel_and_wait
from homeroom.clock import Clock
from homeroom.db.database import HINT_WILDCARD, Database, WriteClass
from homeroom.db.group_commit import GroupCommit, GroupCommitLimits
from homeroom.db.tx import Tx
from homeroom.errors import DatabaseFault, HomeroomError
from homeroom.instant import to_microseconds
from homeroom.jobs import queue_store
from homeroom.jobs.alone_runner import AloneRunner, WaitingAlone
from homeroom.jobs.claim import (
    Claim,
    LeaseOwner,
    QueueCapacity,
    cancel_requested_ids,
    claim_next,
    claim_one,
    next_alone,
    renew_leases,
)
from homeroom.jobs.engine import Dispatcher, DispatchingEngine, Engine
from homeroom.jobs.enqueue import JOBS_TOPIC, enqueue
from homeroom.jobs.handler import Registry
from homeroom.jobs.job import Job
from homeroom.jobs.outcome import Retry
from homeroom.jobs.queue_runner import (
    CANCEL_TIMEOUT_SECONDS,
    AcceptExternalJob,
    ClaimAlone,
    ClaimNext,
    ClaimOne,
    JobRun,
    QueueRunner,
    StopReason,
)
from homeroom.jobs.run_observation import ObserveRun, run_label
from homeroom.jobs.settle import JOB_TOPIC, RunResult, settle

log = structlog.get_logger(__name__)
DEFAULT_CONCURRENCY = 3
LEASE_DURATION = timedelta(seconds=30)
GRACE_PERIOD = timedelta(seconds=25)
CANCELLATION_POLL_SECONDS = 1.0
"""Interval of the check for cancellations where no hint came (another process cancelled)."""
_SAVE_RETRY_SECONDS = 1.0
"""Wait before an outcome is saved again when the database does not answer."""
_SHUTDOWN_DATABASE_TIMEOUT_SECONDS = 2.0
"""Time for the last statements of a shutdown, which take milliseconds on a responsive database."""
CommitItem = ClaimNext | ClaimOne | ClaimAlone | AcceptExternalJob | RunResult
CommitAnswer = tuple[list[Claim], QueueCapacity] | Job | None


class Worker:
    """Run the jobs of all queues of a registry in this process's event loop."""

    def __init__(
        self,
        db: Database,
        registry: Registry,
        engine: Engine,
        *,
        clock: Clock | None = None,
        concurrency: Mapping[str, int] | int = DEFAULT_CONCURRENCY,
        queues: Collection[str] | None = None,
        lease: timedelta = LEASE_DURATION,
        grace: timedelta = GRACE_PERIOD,
        worker_id: str | None = None,
        poll: timedelta = timedelta(seconds=1),
        on_stuck: Callable[[str], None] | None = None,
        observe: ObserveRun | None = None,
    ) -> None:
        """Prepare a worker; ``concurrency`` is one number, or one by queue.

        It runs the jobs of ``queues``, by default those of all queues of the registry.
        ``lease`` is the time after which the jobs of a silent worker are rescued, ``grace`` the
        time that a shutdown waits for running jobs, and ``poll`` the interval at which the table
        is read where no hint came.
        """
        self._db, self._registry, self._engine = db, registry, engine
        self._clock = clock or db.clock
        self.id = worker_id or f"{socket.gethostname()}.{os.getpid()}.{secrets.token_hex(3)}"
        served = registry if queues is None else registry.of_queues(queues)
        self._lease_owner = LeaseOwner(self.id, tuple(served.kinds()), to_microseconds(lease))
        self._lease, self._grace, self._observe = lease, grace, observe
        self._poll = poll
        self._runs: dict[str, JobRun] = {}
        self._renewed_at = self._clock.now()
        self._commits: GroupCommit[CommitItem, CommitAnswer] = GroupCommit(
            db,
            WriteClass.JOBS,
            self._commit_batch,
            name="jobs",
            limits=GroupCommitLimits(),
            on_stuck=on_stuck,
        )
        self._tokens = 0
        self._stop = asyncio.Event()
        self._grace_passed = False
        self._check_now = asyncio.Event()
        self._alone = AloneRunner(
            self._find_alone, self._run_alone, self._on_suspended, poll.total_seconds()
        )
        self.started = asyncio.Event()
        """Set once the worker claims jobs."""
        self._queue_runners = {
            queue: QueueRunner(
                queue,
                _queue_concurrency(concurrency, queue),
                poll.total_seconds(),
                self._commits.put,
                self._run_claim,
                db,
                registry,
            )
            for queue in served.queues()
        }

    @property
    def running(self) -> list[str]:
        """Return the ids of the jobs that run here."""
        return sorted(self._runs)

    @property
    def suspended(self) -> bool:
        """Return whether no job is started but one that runs alone."""
        return self._alone.suspended

    async def run(self) -> None:
        """Work until ``stop`` is called and every run has ended or was released."""
        if not await self._announce():
            return
        unsubscribe = self._db.subscribe(self._on_notification)
        commits = asyncio.create_task(self._commits.run())
        watch = asyncio.create_task(self._watch_leases())
        queue_runners = [
            asyncio.create_task(self._engine.work(queue_runner))
            for queue_runner in self._queue_runners.values()
        ]
        if queue_runners:
            queue_runners.append(asyncio.create_task(self._alone.run()))
        dispatching = asyncio.create_task(self._dispatch())
        self.started.set()
        log.info("worker_started", worker_id=self.id, engine=self._engine.name)
        try:
            await self._wait_for_stop(queue_runners)
        finally:
            await cancel_and_wait(*queue_runners, watch, dispatching)
            self._commits.close()
            await commits
            unsubscribe()
            await self._unregister()
            log.info("worker_stopped", worker_id=self.id)

    async def _announce(self) -> bool:
        """Store the worker and its queues; return False if it is stopped before.

        A worker may start on a full disk: it works as soon as there is room.
        """
        while not self._stop.is_set():
            try:
                async with self._db.write(WriteClass.JOBS) as tx:
                    await queue_store.declare_queues(tx, list(self._queue_runners))
                    if not isinstance(self._engine, DispatchingEngine):
                        await queue_store.forget_shared_limits(tx)
                    await self._register(tx)
            except DatabaseFault:
                with suppress(TimeoutError):
                    async with asyncio.timeout(_SAVE_RETRY_SECONDS):
                        await self._stop.wait()
            else:
                return True
        return False

    async def _dispatch(self) -> None:
        """Dispatch waiting rows, for an engine with a store of its own."""
        if isinstance(self._engine, DispatchingEngine):
            runners = self._queue_runners
            await Dispatcher(self._db, self._registry, self._engine, self._poll, runners).run()

    def stop(self) -> None:
        """Ask the worker to stop; ``run`` returns when it has."""
        self._stop.set()

    async def _wait_for_stop(self, queue_runners: Sequence[asyncio.Task[None]]) -> None:
        stop = asyncio.create_task(self._stop.wait())
        try:
            done, _ = await asyncio.wait(
                [stop, *queue_runners], return_when=asyncio.FIRST_COMPLETED
            )
        finally:
            stop.cancel()
        for queue_runner in self._queue_runners.values():
            queue_runner.close()
        self._alone.stop()
        for task in done - {stop}:
            task.result()  # an engine that ends before the stop has failed: raise its error
        if not queue_runners:
            return
        _, late = await asyncio.wait(queue_runners, timeout=self._grace.total_seconds())
        if late:
            self._grace_passed = True
            for run in list(self._runs.values()):
                run.stop(StopReason.SHUTDOWN)
            # Handlers get the time to be cancelled; without any, only claims are under way.
            timeout = (
                CANCEL_TIMEOUT_SECONDS + 1.0 if self._runs else _SHUTDOWN_DATABASE_TIMEOUT_SECONDS
            )
            _, late = await asyncio.wait(late, timeout=timeout)
        if late:  # the database hangs: the jobs are rescued when their leases expire
            self._commits.close()
            await self._db.interrupt()
            await asyncio.wait(late, timeout=_SHUTDOWN_DATABASE_TIMEOUT_SECONDS)

    # Claims and results, gathered into one commit.

    async def _commit_batch(self, tx: Tx, items: Sequence[CommitItem]) -> list[CommitAnswer]:
        """Settle ended runs, then claim the next jobs, in one transaction."""
        results = [item for item in items if isinstance(item, RunResult)]
        jobs = iter(await settle(tx, self._registry, results) if results else ())
        answers: list[CommitAnswer] = []
        held = 0
        for item in items:
            if isinstance(item, RunResult):
                answers.append(next(jobs))
                continue
            answer = await self._claim(tx, item)
            held += len(answer[0])
            answers.append(answer)
        if held:
            tx.after_commit(partial(self._alone.add_held, held))
        return answers

    async def _claim(
        self, tx: Tx, item: ClaimNext | ClaimOne | ClaimAlone | AcceptExternalJob
    ) -> tuple[list[Claim], QueueCapacity]:
        self._tokens += 1
        token = f"{self.id}.{self._tokens}"
        if isinstance(item, AcceptExternalJob):
            accepted = item.job
            await enqueue(tx, accepted.args, id=accepted.id, priority=accepted.priority)
            item = ClaimOne(item.queue, accepted.id)
        if isinstance(item, ClaimAlone):
            if not self._alone.is_idle:  # claims were being committed when it was requested
                return [], QueueCapacity(0)
            owner = self._lease_owner
            return await claim_one(tx, owner, item.queue, item.job_id, token, alone=True)
        if self._alone.suspended:
            return [], QueueCapacity(0)
        if isinstance(item, ClaimNext):
            return await claim_next(tx, self._lease_owner, item.queue, item.limit, token)
        return await claim_one(tx, self._lease_owner, item.queue, item.job_id, token)

    async def _find_alone(self) -> WaitingAlone | None:
        """Return the first job that waits to run alone, if there is one."""
        async with self._db.read() as tx:
            found = await next_alone(tx, self._lease_owner.kinds)
            if found is None:
                return None
            alive_since = tx.now - self._lease_owner.lease
            is_ours = await queue_store.is_first_worker(tx, self.id, found[0], alive_since)
        return WaitingAlone(*found, is_ours)

    async def _run_alone(self, waiting: WaitingAlone) -> None:
        """Claim a job that has to run alone, and run it to its end."""
        request = ClaimAlone(waiting.queue, waiting.job_id)
        answer = await asyncio.shield(self._commits.put(request))
        assert isinstance(answer, tuple)
        for claim in answer[0]:
            log.warning("job_runs_alone", job_id=claim.job.id, kind=claim.job.kind)
            await self._run_claim(claim, lambda: None, self._stop.is_set())

    def _on_suspended(self, suspended: bool) -> None:
        for queue_runner in self._queue_runners.values():
            queue_runner.suspended = suspended
            queue_runner.wake.set()

    async def _run_claim(
        self, claim: Claim, on_handled: Callable[[], None], stopping: bool
    ) -> Job | None:
        """Run a claimed row and save its result; None where it was settled elsewhere."""
        run = JobRun(self._db, self._registry, claim)
        self._runs[claim.job.id] = run
        started = perf_counter()
        try:
            try:
                result = run.release_claim() if stopping else await run.handle()
            finally:
                on_handled()
                if self._runs.get(claim.job.id) is run:
                    del self._runs[claim.job.id]
            if self._observe is not None:
                label = run_label(claim.job, result.end if result is not None else run.settled)
                self._observe(claim.job, label, perf_counter() - started)
            return None if result is None else await self._save_result(result)
        finally:
            self._alone.remove_held()

    async def _save_result(self, result: RunResult) -> Job | None:
        """Commit the result of a run, with retries until its lease is lost.

        A shutdown whose grace has passed ends the retries: the job is then rescued like one of a
        worker that died.
        """
        attempt = result
        while True:
            try:
                job = await self._commits.put(attempt)
                if job is None:
                    log.warning("job_lease_lost", job_id=result.job_id, worker_id=self.id)
                return job if isinstance(job, Job) else None
            except HomeroomError as error:
                if self._commits.stuck or self._grace_passed:
                    log.warning("job_outcome_lost", job_id=result.job_id, error=error.message)
                    return None  # the process is about to exit; the lease will expire
                await asyncio.sleep(_SAVE_RETRY_SECONDS)
            except Exception as error:
                log.exception("job_outcome_refused", job_id=result.job_id)
                if attempt is result:
                    retry = Retry(f"the outcome could not be saved: {error}")
                    attempt = RunResult(result.job_id, result.token, retry)
                elif attempt.announce:
                    attempt = RunResult(result.job_id, result.token, attempt.end, announce=False)
                else:
                    return None  # the lease will expire, and maintenance tries again

    # Leases, cancellation, heartbeat.

    def _on_notification(self, topics: Sequence[tuple[str, str]]) -> None:
        for topic, name in topics:
            if topic == JOBS_TOPIC and name in self._queue_runners:
                self._queue_runners[name].wake.set()
            elif topic == JOB_TOPIC and name in self._runs:
                self._check_now.set()
            elif topic == HINT_WILDCARD:
                self._check_now.set()
                for queue_runner in self._queue_runners.values():
                    queue_runner.wake.set()

    async def _watch_leases(self) -> None:
        """Renew leases at a third of their length; check for cancellations every second."""
        loop = asyncio.get_running_loop()
        pause = min(CANCELLATION_POLL_SECONDS, self._lease.total_seconds() / 6)
        while True:
            timer = loop.call_later(pause, self._check_now.set)
            await self._check_now.wait()
            timer.cancel()
            self._check_now.clear()
            try:
                await self.check_runs()
            except HomeroomError as error:
                if not isinstance(error, DatabaseFault):  # its cause is logged once
                    log.warning("worker_check_failed", worker_id=self.id, error=error.message)
                self._stop_expired_runs()
            except Exception:  # without this task no lease is renewed, and all jobs would run twice
                log.exception("worker_check_failed", worker_id=self.id)
                self._stop_expired_runs()

    async def check_runs(self) -> None:
        """Renew leases if they are due; stop cancelled runs and those without a lease."""
        if self._clock.now() - self._renewed_at >= to_microseconds(self._lease) // 3:
            await self._renew()
        elif self._runs:
            running_ids = list(self._runs)
            async with self._db.read() as tx:
                for job_id in await cancel_requested_ids(tx, running_ids):
                    self._stop_run(job_id, StopReason.CANCELLED)

    async def _renew(self) -> None:
        runs = dict(self._runs)
        async with self._db.write(WriteClass.JOBS) as tx:
            still = await renew_leases(
                tx, self._lease_owner, [(job_id, run.claim.token) for job_id, run in runs.items()]
            )
            await self._register(tx)
        self._renewed_at = tx.now
        for job_id, run in runs.items():
            if self._runs.get(job_id) is not run:
                continue  # the run has ended meanwhile
            if job_id not in still:
                run.stop(StopReason.LEASE_LOST)
            elif still[job_id]:
                run.stop(StopReason.CANCELLED)

    def _stop_expired_runs(self) -> None:
        """Stop runs whose lease expired during an outage: other workers may run the jobs."""
        lease = to_microseconds(self._lease)
        for run in list(self._runs.values()):
            held_from = max(run.job.started_at or 0, self._renewed_at)
            if self._clock.now() > held_from + lease:
                run.stop(StopReason.LEASE_LOST)

    def _stop_run(self, job_id: str, reason: StopReason) -> None:
        run = self._runs.get(job_id)
        if run is not None:
            run.stop(reason)

    async def _register(self, tx: Tx) -> None:
        concurrency = {name: runner.concurrency for name, runner in self._queue_runners.items()}
        await queue_store.record_heartbeat(
            tx,
            self.id,
            socket.gethostname(),
            os.getpid(),
            concurrency,
            self._lease_owner.lease,
        )

    async def _unregister(self) -> None:
        try:
            async with (
                asyncio.timeout(_SHUTDOWN_DATABASE_TIMEOUT_SECONDS),
                self._db.write(WriteClass.JOBS) as tx,
            ):
                await queue_store.remove_worker(tx, self.id)
        except (HomeroomError, TimeoutError) as error:
            log.warning("worker_unregister_failed", worker_id=self.id, error=str(error))


def _queue_concurrency(concurrency: Mapping[str, int] | int, queue: str) -> int:
    if isinstance(concurrency, int):
        return concurrency
    return concurrency.get(queue, DEFAULT_CONCURRENCY)
