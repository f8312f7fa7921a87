"""The pure rules of the kernel: backoff, states after a run, redaction."""

from __future__ import annotations

import random
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homeroom.jobs.handler import Registry
from homeroom.jobs.job import (
    PARTNER_DELAYS,
    TRANSITIONS,
    Backoff,
    FixedDelays,
    Job,
    JobArgs,
    JobReason,
    JobState,
)
from homeroom.jobs.outcome import (
    DEATHS_UNTIL_ALONE,
    MAX_DEATHS_ALONE,
    Cancel,
    Done,
    Fail,
    LeaseExpired,
    Released,
    Retry,
    RunEnd,
    Snooze,
    next_state,
)
from homeroom.jobs.queue_store import KEEP_COMPLETED, KEEP_FAILED
from homeroom.jobs.worker import DEFAULT_CONCURRENCY, GRACE_PERIOD, LEASE_DURATION
from homeroom.redaction import REDACTED, redact_json, redact_text
from homeroom.settings import Settings


def job(**changes: object) -> Job:
    values: dict[str, object] = {
        "id": "j",
        "queue": "q",
        "kind": "k",
        "state": JobState.ACTIVE,
        "priority": 5,
        "payload": {},
        "version": 1,
        "attempts": 1,
        "max_attempts": 4,
        "run_at": 0,
        "created_at": 0,
        "started_at": 0,
        "finished_at": None,
        "last_error": None,
        "result": None,
        "progress": None,
        "cancel_requested": False,
        "worker": "w",
        "lease_until": 1,
    }
    return Job(**{**values, **changes})  # type: ignore[arg-type]


@given(attempt=st.integers(1, 200), seed=st.integers())
def test_a_delay_lies_between_zero_and_its_doubling_ceiling(attempt: int, seed: int) -> None:
    backoff = Backoff(base=timedelta(seconds=2), cap=timedelta(minutes=1))
    ceiling = backoff.ceiling(attempt)
    assert ceiling == timedelta(seconds=min(2.0 * 2 ** min(attempt - 1, 10), 60))
    assert timedelta() <= backoff.delay(attempt, random.Random(seed)) <= ceiling


def test_jitter_is_full() -> None:
    random_source = random.Random(7)
    waits = [Backoff().delay(4, random_source).total_seconds() for _ in range(2_000)]
    assert min(waits) < 0.1
    assert max(waits) > 7.9
    assert 3.8 < sum(waits) / len(waits) < 4.2


@given(attempt=st.integers(1, 200), seed=st.integers())
def test_a_fixed_delay_is_that_of_its_attempt_give_or_take_a_fifth(attempt: int, seed: int) -> None:
    delays = FixedDelays((timedelta(seconds=10), timedelta(hours=2)))
    listed = timedelta(seconds=10) if attempt == 1 else timedelta(hours=2)
    assert 0.8 * listed <= delays.delay(attempt, random.Random(seed)) <= 1.2 * listed


def test_partners_are_tried_for_three_days() -> None:
    assert sum(PARTNER_DELAYS.delays, timedelta()) > timedelta(days=3)


def test_a_wait_is_no_shorter_than_a_partner_may_still_be_at_work() -> None:
    for after, wait in ((None, 30), (timedelta(seconds=7), 30), (timedelta(seconds=40), 40)):
        retried = next_state(
            job(),
            Retry("x", after, timedelta(seconds=30)),
            now=0,
            allowance=4,
            backoff=FixedDelays((timedelta(seconds=5),)),
            random_source=random.Random(1),
        )
        assert retried.run_at == wait * 1_000_000


@pytest.mark.parametrize("cancel", [False, True])
@pytest.mark.parametrize("attempts", [1, 4])
@pytest.mark.parametrize(
    "outcome",
    [Done(), Retry("x"), Snooze(timedelta(seconds=1)), Fail("x"), Cancel()],
    ids=lambda outcome: type(outcome).__name__,
)
def test_an_active_job_makes_only_legal_transitions(
    outcome: Done | Retry | Snooze | Fail | Cancel, attempts: int, cancel: bool
) -> None:
    after = next_state(
        job(attempts=attempts, cancel_requested=cancel),
        outcome,
        now=10,
        allowance=4,
        backoff=Backoff(),
        random_source=random.Random(1),
    )
    assert after.state in TRANSITIONS[JobState.ACTIVE]
    if cancel and not isinstance(outcome, Done):
        assert after.state is JobState.FAILED


def test_a_death_counts_also_in_a_job_that_is_cancelled() -> None:
    after = next_state(
        job(cancel_requested=True),
        LeaseExpired(deaths=1),
        now=0,
        allowance=4,
        backoff=Backoff(),
        random_source=random.Random(1),
    )
    assert (after.state, after.reason_code) == (JobState.FAILED, JobReason.CANCELLED)
    assert after.attempt_outcome == "lost"


def test_backoff_starts_again_after_a_retry_by_an_operator() -> None:
    class Most(random.Random):
        def random(self) -> float:
            return 1.0

    after = next_state(
        job(attempts=5, max_attempts=8),
        Retry("x"),
        now=0,
        allowance=4,
        backoff=Backoff(base=timedelta(seconds=1)),
        random_source=Most(),
    )
    assert after.run_at == 1_000_000


LAST = job(attempts=4)
EARLIER = job(attempts=2, last_error="timed out", reason_code="timed_out")


@pytest.mark.parametrize(
    ("before", "end", "reason", "code"),
    [
        (EARLIER, Done(), None, None),
        (EARLIER, Retry("x"), None, JobReason.HANDLER_ERROR),
        (EARLIER, Retry("x"), JobReason.TIMED_OUT, JobReason.TIMED_OUT),
        (LAST, Retry("x"), JobReason.TIMED_OUT, JobReason.ATTEMPTS_EXHAUSTED),
        (EARLIER, Fail("x"), None, JobReason.HANDLER_FAILED),
        (EARLIER, Fail("x"), JobReason.UNDECODABLE, JobReason.UNDECODABLE),
        (EARLIER, Cancel("x"), None, JobReason.CANCELLED),
        (job(cancel_requested=True), Retry("x"), None, JobReason.CANCELLED),
        (EARLIER, Snooze(timedelta(1)), None, JobReason.SNOOZED),
        (EARLIER, Snooze(timedelta(1)), JobReason.NEWER_RELEASE, JobReason.NEWER_RELEASE),
        (EARLIER, Released(), None, "timed_out"),
        (EARLIER, LeaseExpired(1), None, JobReason.WORKER_DIED),
        (EARLIER, LeaseExpired(DEATHS_UNTIL_ALONE), None, JobReason.WORKER_DIED),
        (EARLIER, LeaseExpired(MAX_DEATHS_ALONE, was_alone=True), None, JobReason.WORKER_DIED),
    ],
)
def test_every_end_of_a_run_has_a_code(
    before: Job, end: RunEnd, reason: JobReason | None, code: str | None
) -> None:
    after = next_state(
        before,
        end,
        now=10,
        allowance=4,
        backoff=Backoff(),
        random_source=random.Random(1),
        reason=reason,
    )
    assert after.reason_code == code


@pytest.mark.parametrize(
    ("end", "state", "wait"),
    [
        (LeaseExpired(1), JobState.WAITING, None),
        (LeaseExpired(2), JobState.WAITING, None),
        (LeaseExpired(3), JobState.DELAYED, timedelta(seconds=30)),
        (LeaseExpired(1, was_alone=True), JobState.DELAYED, timedelta(minutes=5)),
        (LeaseExpired(2, was_alone=True), JobState.DELAYED, timedelta(minutes=30)),
        (LeaseExpired(3, was_alone=True), JobState.FAILED, None),
    ],
)
def test_a_job_fails_after_three_deaths_of_workers_that_ran_nothing_else(
    end: LeaseExpired, state: JobState, wait: timedelta | None
) -> None:
    before = job(attempts=2)
    after = next_state(
        before, end, now=10, allowance=4, backoff=Backoff(), random_source=random.Random(1)
    )
    assert (after.state, after.attempt_outcome) == (state, "lost")
    assert after.run_at == (
        before.run_at if wait is None else 10 + wait // timedelta(microseconds=1)
    )
    assert after.grants_attempt == (state is not JobState.FAILED)
    assert end.isolates == (end.deaths == 3 and not end.was_alone)


def test_the_last_attempt_is_exhausted_and_not_retried() -> None:
    for before, outcome in ((EARLIER, "retry"), (LAST, "exhausted")):
        after = next_state(
            before,
            Retry("x"),
            now=10,
            allowance=4,
            backoff=Backoff(),
            random_source=random.Random(1),
        )
        assert after.attempt_outcome == outcome


def test_the_defaults_of_a_worker_are_those_of_the_settings() -> None:
    fields = Settings.model_fields
    assert fields["shutdown_grace"].default == GRACE_PERIOD
    assert fields["job_lease"].default == LEASE_DURATION
    assert fields["concurrency"].default == DEFAULT_CONCURRENCY
    assert fields["jobs_keep_completed"].default == KEEP_COMPLETED
    assert fields["jobs_keep_failed"].default == KEEP_FAILED
    for partner in ("credly", "analytics", "hr"):
        assert fields[f"{partner}_retry_delays"].default == PARTNER_DELAYS.delays


def test_a_kind_has_one_handler_and_a_queue_no_colon() -> None:
    class Twice(JobArgs, frozen=True):
        kind = "rules.twice"
        queue = "rules"

    class Colon(JobArgs, frozen=True):
        kind = "rules.colon"
        queue = "rules:colon"

    async def run(ctx: object, args: object) -> Done:
        return Done()

    registry = Registry()
    registry.add(Twice, run)
    with pytest.raises(ValueError, match="two handlers"):
        registry.add(Twice, run)
    with pytest.raises(ValueError, match="colon"):
        registry.add(Colon, run)


def test_secrets_are_hidden_at_any_depth() -> None:
    shown = redact_json(
        {
            "accessToken": "abc",
            "nested": [{"apiKey": "k", "api-key": "k", "Authorization": "Basic eA=="}],
            "clientSecret": None,
            "note": "write to anna.maria@school.example today",
            "score": 0,
        }
    )
    assert shown == {
        "accessToken": REDACTED,
        "nested": [{"apiKey": REDACTED, "api-key": REDACTED, "Authorization": REDACTED}],
        "clientSecret": None,
        "note": "write to a***@school.example today",
        "score": 0,
    }


@pytest.mark.parametrize(
    "text",
    [
        "Authorization: Bearer hunter2",
        "GET /x?token=hunter2&y=1",
        '{"password": "hunter2"}',
        "api_key=hunter2",
    ],
)
def test_secrets_in_errors_are_hidden(text: str) -> None:
    assert "hunter2" not in redact_text(text)


def test_addresses_are_masked_in_texts_of_any_length() -> None:
    assert redact_text("..a@b.example and x.y@c.example") == "a***@b.example and x***@c.example"
    long = "a" * 1_000_000  # begun again at each letter, this would take an hour
    assert redact_text(long) == long
