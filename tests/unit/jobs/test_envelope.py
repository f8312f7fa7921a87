"""What a job looks like in Redis: priorities, ids, and what is shown of it there."""

from __future__ import annotations

from dataclasses import replace

import pytest

from homeroom.jobs.engines.envelope import (
    MAX_SHOWN_BYTES,
    Letter,
    from_redis,
    named_row,
    open_offer,
    row_id,
    seal,
    to_redis,
)
from homeroom.jobs.job import Job, JobState
from homeroom.jobs.offer import Refused

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
LETTER = Letter("mine", "completion.credential", {"version": 1, "args": {}}, 1_700, 0)


def test_the_most_urgent_is_10_here_and_1_there() -> None:
    assert [to_redis(priority) for priority in (10, 5, 1)] == [1, 6, 10]
    assert [from_redis(to_redis(priority)) for priority in range(1, 11)] == list(range(1, 11))
    assert from_redis(2_000_000) == 1
    assert from_redis(0) is None


def test_what_is_shown_of_our_jobs_hides_secrets_and_has_a_bound() -> None:
    assert seal(JOB) == {
        "version": 2,
        "args": {"completionId": "ada.1", "token": "[hidden]", "to": "a***@school.example"},
        "row": "ada.1.credential",
    }
    large = replace(JOB, payload={"text": "x" * MAX_SHOWN_BYTES})
    assert seal(large) == {"version": 2, "args": None, "row": "ada.1.credential"}
    assert named_row(replace(LETTER, data=seal(JOB))) == "ada.1.credential"


@pytest.mark.parametrize(
    ("id", "row"),
    [
        ("mine", "mine"),
        ("17", "bull.credentials.17.1700"),
        ("repeat:nightly:99", "bull.credentials.repeat.nightly.99.1700"),
    ],
)
def test_a_row_has_its_producers_id_or_one_that_comes_only_once(id: str, row: str) -> None:
    assert row_id("credentials", replace(LETTER, id=id)) == row


@pytest.mark.parametrize("data", [None, 7, "x", [], {}, {"version": True, "args": {}}])
def test_data_of_another_form_is_no_offer(data: object) -> None:
    letter = replace(LETTER, data=data)
    assert named_row(letter) is None
    with pytest.raises(Refused, match='"version": 1'):
        open_offer("credentials", letter)


def test_versions_begin_at_one_and_args_are_an_object() -> None:
    with pytest.raises(Refused, match="begin at 1"):
        open_offer("credentials", replace(LETTER, data={"version": 0, "args": {}}))
    with pytest.raises(Refused, match="an object"):
        open_offer("credentials", replace(LETTER, data={"version": 1, "args": None}))
