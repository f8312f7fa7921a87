"""Random claims, crashes, settlements, rescues and cancellations against a model of the rules."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from tests.support.database import database_at
from tests.support.effort import EFFORT
from tools.servers.postgres import Postgres

from homeroom.clock import Clock
from homeroom.errors import Conflict
from homeroom.instant import SECOND
from homeroom.jobs import job_actions, store
from homeroom.jobs.claim import LeaseOwner, claim_next, claim_one
from homeroom.jobs.engine import SqlEngine
from homeroom.jobs.enqueue import enqueue
from homeroom.jobs.handler import Registry
from homeroom.jobs.job import JobArgs
from homeroom.jobs.maintenance import JobMaintenance
from homeroom.jobs.outcome import (
    DEATHS_UNTIL_ALONE,
    MAX_DEATHS_ALONE,
    WAITS_BEFORE_ALONE,
    Cancel,
    Done,
    Fail,
    Released,
    Retry,
    Snooze,
)
from homeroom.jobs.settle import RunResult, settle

LEASE = 30 * SECOND
TRIES = 3
FINISHED = ("completed", "failed")
LATER = timedelta(seconds=40)
OUTCOMES = [
    Done(),
    Retry("again", after=timedelta(0)),
    Retry("later", after=LATER),
    Snooze(LATER),
    Fail("no"),
    Cancel(),
    Released(),
]


class Work(JobArgs, frozen=True, kw_only=True):
    """A job kind with three attempts."""

    kind = "model.work"
    queue = "model"
    max_retries = TRIES - 1


@dataclass
class Modelled:
    """What a row must look like."""

    state: str = "waiting"
    attempts: int = 0
    allowed: int = TRIES
    token: str | None = None
    lease_until: int = 0
    run_at: int = 0
    cancel: bool = False
    deaths: int = 0
    """Deaths of its workers since it was added, or since it runs alone or was retried so."""
    alone: bool = False
    effects: int = 0
    """Settlements as done that were accepted."""


class JobRows(RuleBasedStateMachine):
    """Several workers that die at any moment, and the rows that must survive it."""

    template: ClassVar[Path]

    def __init__(self) -> None:
        super().__init__()
        self.clock = _Frozen()
        self.loop = asyncio.Runner()
        self.db = database_at(self._fresh(), self.clock)
        self.loop.run(self.db.open())
        self.registry = Registry()
        self.told: list[tuple[str, str]] = []
        self.registry.add(Work, self._never, self._changed)
        self.upkeep = JobMaintenance(self.db, self.registry, SqlEngine(), self.clock)
        self.model: dict[str, Modelled] = {}
        self.held: list[tuple[str, str]] = []
        """Every (id, token) that any worker believes to hold, dead claims too."""
        self.claims = 0

    def _fresh(self) -> Path | str:
        """Return an empty database of this story's own."""
        self.folder = tempfile.TemporaryDirectory()
        return Path(shutil.copy(self.template, Path(self.folder.name) / "jobs.db"))

    def _throw_away(self) -> None:
        self.folder.cleanup()

    async def _never(self, ctx: Any, args: Any) -> Any:
        raise AssertionError("no worker runs here")

    async def _changed(self, tx: Any, job: Any, args: Any) -> None:
        self.told.append((job.id, job.state.value))

    def _do(self, act: Callable[..., Awaitable[Any]], *args: Any, **options: Any) -> Any:
        async def inside() -> Any:
            async with self.db.write() as tx:
                return await act(tx, *args, **options)

        return self.loop.run(inside())

    @rule(number=st.integers(0, 5))
    def add(self, number: int) -> None:
        job_id = f"job.{number}"
        self._do(enqueue, Work(), id=job_id)
        self.model.setdefault(job_id, Modelled(run_at=self.clock.now()))

    @rule(worker=st.sampled_from(["east", "west"]), limit=st.integers(1, 4))
    def claim(self, worker: str, limit: int) -> None:
        self.claims += 1
        holder = LeaseOwner(worker, (Work.kind,), LEASE)
        claims, _ = self._do(claim_next, holder, "model", limit, f"{worker}.{self.claims}")
        waiting = [
            name for name, job in self.model.items() if job.state == "waiting" and not job.alone
        ]
        assert len(claims) == min(limit, len(waiting))
        self._note_claims(claims, alone=False)

    @precondition(lambda self: self._waiting_alone())
    @rule(data=st.data())
    def claim_alone(self, data: Any) -> None:
        self._claim_alone(data.draw(st.sampled_from(self._waiting_alone())))

    def _waiting_alone(self) -> list[str]:
        return sorted(id for id, job in self.model.items() if job.alone and job.state == "waiting")

    def _claim_alone(self, job_id: str) -> None:
        self.claims += 1
        holder, token = LeaseOwner("east", (Work.kind,), LEASE), f"east.{self.claims}"
        assert self._do(claim_one, holder, "model", job_id, token)[0] == []
        claims, _ = self._do(claim_one, holder, "model", job_id, token, alone=True)
        assert [claim.job.id for claim in claims] == [job_id]
        self._note_claims(claims, alone=True)

    def _note_claims(self, claims: Any, *, alone: bool) -> None:
        for claim in claims:
            job = self.model[claim.job.id]
            assert (job.state, job.alone) == ("waiting", alone)
            job.state, job.token = "active", claim.token
            job.attempts += 1
            job.lease_until = self.clock.now() + LEASE
            self.held.append((claim.job.id, claim.token))

    @precondition(lambda self: self.held)
    @rule(data=st.data(), outcome=st.sampled_from(OUTCOMES), forget=st.booleans())
    def settle_one(self, data: Any, outcome: Any, forget: bool) -> None:
        pair = data.draw(st.sampled_from(self.held))
        if forget:
            self.held.remove(pair)
        (job,) = self._do(settle, self.registry, [RunResult(*pair, outcome)])
        row = self.model[pair[0]]
        assert (job is not None) == (row.state == "active" and row.token == pair[1])
        if job is not None:
            self._end(row, outcome)
            assert self.told[-1] == (pair[0], row.state)

    def _end(self, row: Modelled, outcome: Any) -> None:
        row.token = None
        if isinstance(outcome, Done):
            row.state, row.effects = "completed", row.effects + 1
        elif isinstance(outcome, Fail | Cancel) or row.cancel:
            row.state = "failed"
        elif isinstance(outcome, Released):
            row.state, row.attempts = "waiting", row.attempts - 1
        elif isinstance(outcome, Snooze):
            row.state, row.attempts = "delayed", row.attempts - 1
            row.run_at = self.clock.now() + LATER // timedelta(microseconds=1)
        elif row.attempts >= row.allowed:
            row.state = "failed"
        elif outcome.after:
            row.state = "delayed"
            row.run_at = self.clock.now() + LATER // timedelta(microseconds=1)
        else:
            row.state = "waiting"

    @rule(seconds=st.sampled_from([1, 20, 31, 100]))
    def time_passes_and_upkeep_runs(self, seconds: int) -> None:
        self.clock.advance(timedelta(seconds=seconds))
        self.loop.run(self.upkeep.tick())
        now = self.clock.now()
        for row in self.model.values():
            if row.state == "active" and row.lease_until < now:
                row.token = None
                self._die(row, now)
            if row.state == "delayed" and row.run_at <= now:
                row.state = "waiting"

    def _die(self, row: Modelled, now: int) -> None:
        row.deaths += 1
        fails = row.cancel or (row.alone and row.deaths == MAX_DEATHS_ALONE)
        row.state, wait = "failed" if fails else "waiting", timedelta()
        row.allowed += not fails
        if row.alone and not fails:
            wait = WAITS_BEFORE_ALONE[row.deaths]
        elif not row.alone and row.deaths >= DEATHS_UNTIL_ALONE:
            row.alone, row.deaths, wait = True, 0, timedelta() if fails else WAITS_BEFORE_ALONE[0]
        if wait:
            row.state, row.run_at = "delayed", now + wait // timedelta(microseconds=1)

    @precondition(lambda self: self.model)
    @rule(data=st.data())
    def cancel_one(self, data: Any) -> None:
        job_id = data.draw(st.sampled_from(sorted(self.model)))
        row = self.model[job_id]
        try:
            self._do(job_actions.cancel, self.registry, job_id)
        except Conflict:
            assert row.state in FINISHED
            return
        assert row.state not in FINISHED
        if row.state == "active":
            row.cancel = True
        else:
            row.state = "failed"

    @precondition(lambda self: self.model)
    @rule(data=st.data())
    def retry_one(self, data: Any) -> None:
        job_id = data.draw(st.sampled_from(sorted(self.model)))
        row = self.model[job_id]
        try:
            self._do(job_actions.retry, self.registry, job_id)
        except Conflict:
            assert row.state != "failed"
            return
        assert row.state == "failed"
        row.state, row.cancel, row.run_at = "waiting", False, self.clock.now()
        row.allowed = row.attempts + TRIES
        row.deaths = 0 if row.alone else row.deaths

    @invariant()
    def rows_are_as_modelled(self) -> None:
        found = self._do(store.find, sorted(self.model))
        assert sorted(found) == sorted(self.model)
        for job_id, row in self.model.items():
            job = found[job_id]
            assert (job.state.value, job.attempts) == (row.state, row.attempts)
            assert job.max_attempts == row.allowed
            assert job.attempts <= job.max_attempts
            assert (job.worker is None) == (row.state != "active")
            assert (job.finished_at is not None) == (row.state in FINISHED)
            assert row.effects <= 1

    def teardown(self) -> None:
        """No job stays unfinished once a worker runs, whatever happened before."""
        try:
            for _ in range(len(self.model) + 2):
                self.time_passes_and_upkeep_runs(2_000)
                held = len(self.held)
                self.claim("last", 100)
                for job_id in self._waiting_alone():
                    self._claim_alone(job_id)
                for pair in self.held[held:]:
                    self._do(settle, self.registry, [RunResult(*pair, Done())])
                    self._end(self.model[pair[0]], Done())
            self.rows_are_as_modelled()
            assert all(row.state in FINISHED for row in self.model.values())
        finally:
            self.loop.run(self.db.close())
            self.loop.close()
            self._throw_away()


class JobRowsOnPostgres(JobRows):
    """The same on PostgreSQL."""

    server: ClassVar[Postgres]
    migrated: ClassVar[str]

    def _fresh(self) -> str:
        self.name = self.server.make_database(self.migrated)
        return self.server.url(self.name)

    def _throw_away(self) -> None:
        self.server.drop_database(self.name)


class _Frozen(Clock):
    """A clock that only moves when told to, so that the model can know every instant."""

    def __init__(self) -> None:
        super().__init__()
        self._at = 1_700_000_000 * SECOND

    def now(self) -> int:
        return self._at

    def advance(self, by: timedelta) -> None:
        self._at += round(by.total_seconds() * SECOND)


@pytest.fixture
def _template(migrated_file: Path) -> None:
    JobRows.template = migrated_file


@pytest.fixture
def _server(postgres: Postgres, migrated_database: str) -> None:
    JobRowsOnPostgres.server, JobRowsOnPostgres.migrated = postgres, migrated_database


LONG = settings(
    max_examples=60 * EFFORT,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)


@pytest.mark.usefixtures("_template")
class TestJobRows(JobRows.TestCase):
    """No job is lost, no two holders can both settle, attempts are bounded, the end is the end."""

    settings = LONG


@pytest.mark.usefixtures("_server")
class TestJobRowsOnPostgres(JobRowsOnPostgres.TestCase):
    """The same on PostgreSQL, in fewer stories: each statement is a round trip there."""

    settings = settings(LONG, max_examples=15 * EFFORT)
