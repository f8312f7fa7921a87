"""The format of jobs in Redis: priorities, ids, redacted data."""

from __future__ import annotations

from dataclasses import replace

import pytest

from homeroom.jobs.engines.payload import (
    MAX_REDIS_ARGS_BYTES,
    RedisJob,
    decode_external_job,
    encode_job,
    from_redis_priority,
    job_row_id,
    own_row_id,
    to_redis_priority,
)
from homeroom.jobs.enqueue import ExternalJobRefused
from homeroom.jobs.job import Job, JobState

JOB = Job(
    id="ada.1.credential",
    queue="credentials",
    kind="completion.credential",
    state=JobState.WAITING,
    priority=10,
    payload={"completionId": "ada.1", "token": "swordfish", "to": "ada@school.example"},
    version=2,
    attempts=0,
    max_attempts=4,
    run_at=0,
    created_at=0,
    started_at=None,
    finished_at=None,
    last_error=None,
    result=None,
    progress=None,
    cancel_requested=False,
    worker=None,
    lease_until=None,
)
REDIS_JOB = RedisJob("mine", "completion.credential", {"version": 1, "args": {}}, 1_700, 0)


def test_priority_10_is_priority_1_in_redis() -> None:
    assert [to_redis_priority(priority) for priority in (10, 5, 1)] == [1, 6, 10]
    assert [from_redis_priority(to_redis_priority(priority)) for priority in range(1, 11)] == list(
        range(1, 11)
    )
    assert from_redis_priority(2_000_000) == 1
    assert from_redis_priority(0) is None


def test_data_of_own_jobs_is_redacted_and_bounded() -> None:
    assert encode_job(JOB) == {
        "version": 2,
        "args": {"completionId": "ada.1", "token": "[hidden]", "to": "a***@school.example"},
        "row": "ada.1.credential",
    }
    large = replace(JOB, payload={"text": "x" * MAX_REDIS_ARGS_BYTES})
    assert encode_job(large) == {"version": 2, "args": None, "row": "ada.1.credential"}
    assert own_row_id(replace(REDIS_JOB, data=encode_job(JOB))) == "ada.1.credential"


@pytest.mark.parametrize(
    ("id", "row"),
    [
        ("mine", "mine"),
        ("17", "bull.credentials.17.1700"),
        ("repeat:nightly:99", "bull.credentials.repeat.nightly.99.1700"),
    ],
)
def test_a_row_has_its_producers_id_or_a_unique_one(id: str, row: str) -> None:
    assert job_row_id("credentials", replace(REDIS_JOB, id=id)) == row


@pytest.mark.parametrize("data", [None, 7, "x", [], {}, {"version": True, "args": {}}])
def test_data_of_another_form_is_refused(data: object) -> None:
    redis_job = replace(REDIS_JOB, data=data)
    assert own_row_id(redis_job) is None
    with pytest.raises(ExternalJobRefused, match='"version": 1'):
        decode_external_job("credentials", redis_job)


def test_versions_are_at_least_one_and_args_are_an_object() -> None:
    with pytest.raises(ExternalJobRefused, match="at least 1"):
        decode_external_job("credentials", replace(REDIS_JOB, data={"version": 0, "args": {}}))
    with pytest.raises(ExternalJobRefused, match="is an object"):
        decode_external_job("credentials", replace(REDIS_JOB, data={"version": 1, "args": None}))
