"""The pure rules of the kernel: backoff, endings, what operators may see."""

from __future__ import annotations

import random
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homeroom.jobs.args import JobArgs
from homeroom.jobs.backoff import Backoff
from homeroom.jobs.ending import decide
from homeroom.jobs.handler import Registry
from homeroom.jobs.job import TRANSITIONS, Job, JobState
from homeroom.jobs.outcome import Cancel, Done, Fail, Retry, Snooze
from homeroom.jobs.redact import HIDDEN, redact, redact_text


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
def test_a_wait_lies_between_zero_and_its_doubling_ceiling(attempt: int, seed: int) -> None:
    backoff = Backoff(base=timedelta(seconds=2), cap=timedelta(minutes=1))
    ceiling = backoff.ceiling(attempt)
    assert ceiling == timedelta(seconds=min(2.0 * 2 ** min(attempt - 1, 10), 60))
    assert timedelta() <= backoff.delay(attempt, random.Random(seed)) <= ceiling


def test_jitter_is_full() -> None:
    chance = random.Random(7)
    waits = [Backoff().delay(4, chance).total_seconds() for _ in range(2_000)]
    assert min(waits) < 0.1
    assert max(waits) > 7.9
    assert 3.8 < sum(waits) / len(waits) < 4.2


@pytest.mark.parametrize("cancel", [False, True])
@pytest.mark.parametrize("attempts", [1, 4])
@pytest.mark.parametrize(
    "outcome",
    [Done(), Retry("x"), Snooze(timedelta(seconds=1)), Fail("x"), Cancel()],
    ids=lambda outcome: type(outcome).__name__,
)
def test_an_active_job_goes_only_where_it_may(
    outcome: Done | Retry | Snooze | Fail | Cancel, attempts: int, cancel: bool
) -> None:
    after = decide(
        job(attempts=attempts, cancel_requested=cancel),
        outcome,
        now=10,
        allowance=4,
        backoff=Backoff(),
        chance=random.Random(1),
    )
    assert after.state in TRANSITIONS[JobState.ACTIVE]
    if cancel and not isinstance(outcome, Done):
        assert after.state is JobState.FAILED


def test_backoff_starts_again_after_a_retry_by_hand() -> None:
    class Most(random.Random):
        def random(self) -> float:
            return 1.0

    after = decide(
        job(attempts=5, max_attempts=8),
        Retry("x"),
        now=0,
        allowance=4,
        backoff=Backoff(base=timedelta(seconds=1)),
        chance=Most(),
    )
    assert after.run_at == 1_000_000


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


def test_secrets_are_hidden_wherever_they_are() -> None:
    shown = redact(
        {
            "accessToken": "abc",
            "nested": [{"apiKey": "k", "api-key": "k", "Authorization": "Basic eA=="}],
            "clientSecret": None,
            "note": "write to anna.maria@school.example today",
            "score": 0,
        }
    )
    assert shown == {
        "accessToken": HIDDEN,
        "nested": [{"apiKey": HIDDEN, "api-key": HIDDEN, "Authorization": HIDDEN}],
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
