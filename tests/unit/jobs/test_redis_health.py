"""When Redis counts as unavailable, and what is logged of it."""

from __future__ import annotations

from redis import exceptions
from structlog.testing import capture_logs

from homeroom.jobs.engines.bullmq_fetcher import RedisHealth


class Outage:
    """A process's record of Redis with a clock that the test sets."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.calls = 0
        self.health = RedisHealth(self.count, lambda: self.seconds)

    def count(self) -> None:
        self.calls += 1


def test_a_call_that_fails_just_after_a_recovery_is_not_a_second_outage() -> None:
    outage = Outage()
    with capture_logs() as lines:
        outage.health.record_failure(exceptions.ConnectionError("refused"))
        outage.health.record_success(wrote=False)
        outage.seconds = 0.04
        outage.health.record_failure(exceptions.ConnectionError("refused"))
        assert outage.health.is_available
        outage.seconds = 1.5
        outage.health.record_failure(exceptions.ConnectionError("refused"))
    events = [line["event"] for line in lines]
    assert events == ["redis_unavailable", "redis_recovered", "redis_unavailable"]
    assert outage.calls == 3, "each failure has its jobs dispatched anew"


def test_a_redis_that_is_full_is_available_after_it_took_a_write() -> None:
    outage = Outage()
    outage.health.record_failure(exceptions.OutOfMemoryError("used memory > maxmemory"))
    outage.health.record_success(wrote=False)
    assert outage.health.refuses_writes
    outage.health.record_success(wrote=True)
    assert outage.health.is_available
    outage.health.record_failure(exceptions.OutOfMemoryError("used memory > maxmemory"))
    assert outage.health.refuses_writes, "an answer is never late"
