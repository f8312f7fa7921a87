"""A step follows the state of its job."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from homeroom.completion.completion import SkipReason, StepState, apply_job_to_step
from homeroom.jobs.job import Job, JobState

ROOT = Path(__file__).resolve().parents[3]
STEP = StepState("c", "credential", 0, "waiting", "c.credential", 1)


def job(state: JobState, **more: Any) -> Job:
    values: dict[str, Any] = {
        "id": "c.credential",
        "queue": "credentials",
        "kind": "credential.issue",
        "state": state,
        "priority": 10,
        "payload": {},
        "version": 1,
        "attempts": 2,
        "max_attempts": 4,
        "run_at": 0,
        "created_at": 0,
        "started_at": 1,
        "finished_at": 9 if state in {JobState.COMPLETED, JobState.FAILED} else None,
        "last_error": None,
        "result": None,
        "progress": None,
        "cancel_requested": False,
        "worker": None,
        "lease_until": None,
    }
    return Job(**(values | more))


@pytest.mark.parametrize(
    "state", [JobState.WAITING, JobState.DELAYED, JobState.ACTIVE, JobState.WAITING_CHILDREN]
)
def test_a_step_waits_while_its_job_has_not_finished(state: JobState) -> None:
    step = apply_job_to_step(STEP, job(state, last_error="503"))
    assert (step.status, step.attempts, step.last_error, step.finished_at) == (
        "waiting",
        2,
        "503",
        None,
    )


def test_a_completed_job_completes_its_step_with_the_id_the_partner_gave() -> None:
    step = apply_job_to_step(
        STEP, job(JobState.COMPLETED, result={"externalId": 42}, last_error="503")
    )
    assert (step.status, step.external_id, step.last_error, step.finished_at) == (
        "completed",
        "42",
        None,
        9,
    )
    assert apply_job_to_step(STEP, job(JobState.COMPLETED, result="fine")).external_id is None


def test_a_job_that_found_nothing_to_do_skips_its_step_with_the_reason() -> None:
    reason = SkipReason("destination_not_configured", "no partner is set")
    step = apply_job_to_step(STEP, job(JobState.COMPLETED, result=reason.to_result()))
    assert (step.status, step.skip_reason) == ("skipped", "no partner is set")
    assert step.skip_code == "destination_not_configured"
    retried = apply_job_to_step(step, job(JobState.WAITING))
    assert (retried.skip_reason, retried.skip_code) == (None, None)


def test_a_job_of_an_earlier_release_skips_its_step_without_a_code() -> None:
    step = apply_job_to_step(STEP, job(JobState.COMPLETED, result={"skipped": "no partner is set"}))
    assert (step.skip_reason, step.skip_code) == ("no partner is set", None)


def test_a_failed_job_fails_its_step_and_a_retry_makes_it_wait_again() -> None:
    failed = apply_job_to_step(STEP, job(JobState.FAILED, last_error="no e-mail address"))
    assert (failed.status, failed.last_error, failed.finished_at) == (
        "failed",
        "no e-mail address",
        9,
    )
    again = apply_job_to_step(failed, job(JobState.WAITING, last_error="no e-mail address"))
    assert (again.status, again.finished_at) == ("waiting", None)


def test_every_code_of_a_skipped_step_is_documented() -> None:
    sources = "\n".join(path.read_text() for path in (ROOT / "src").rglob("*.py"))
    codes = set(re.findall(r"SkipReason\(\s*\"(\w+)\"", sources))
    assert codes == {
        "course_without_badge",
        "credentials_disabled",
        "destination_not_configured",
        "issuer_not_configured",
        "later_attempt_has_badge",
        "public_url_not_https",
    }
    page = (ROOT / "docs" / "partners.md").read_text()
    assert [code for code in codes if f"`{code}`" not in page] == []
