"""Learner and course that a job is for, as the features know them.

Payloads hold ids of records alone, since they go to Redis. A feature declares how to read the
learner of its records, and how to find the jobs of a learner; the kernel knows no feature.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import Select

from homeroom.db.tx import Tx
from homeroom.jobs.job import Job

_USER_KEY, _COURSE_KEY = "userId", "courseId"
_IDS_PER_STATEMENT = 500


@dataclass(frozen=True, slots=True)
class JobSubject:
    """The learner or recipient, the course and the completion of a job, if any."""

    user_id: str | None = None
    course_id: str | None = None
    completion_id: str | None = None


@dataclass(frozen=True, slots=True)
class SubjectSource:
    """The subjects of the records of one kind that payloads name."""

    payload_key: str
    """The member of payloads that holds the id of such a record, as ``completionId``."""
    read: Callable[[Tx, Sequence[str]], Awaitable[Mapping[str, JobSubject]]]
    """Return the subjects of records by their ids."""
    select_jobs: Callable[[str], Select[tuple[str]]]
    """Select the ids of jobs whose learner or course contains a text, in any case."""


class JobSubjects:
    """The subjects of all features."""

    def __init__(self, sources: Sequence[SubjectSource] = ()) -> None:
        """Register the sources of the features."""
        self._sources = tuple(sources)

    async def describe(self, tx: Tx, jobs: Sequence[Job]) -> dict[str, JobSubject]:
        """Return the subjects of jobs by job id: 500 in one statement of a source."""
        found = {job.id: _named_in_payload(job) for job in jobs}
        for source in self._sources:
            record_ids = {
                job.id: record_id
                for job in jobs
                if isinstance(record_id := job.payload.get(source.payload_key), str)
            }
            if not record_ids:
                continue
            subjects: dict[str, JobSubject] = {}
            distinct = sorted(set(record_ids.values()))
            for start in range(0, len(distinct), _IDS_PER_STATEMENT):
                subjects.update(await source.read(tx, distinct[start : start + _IDS_PER_STATEMENT]))
            found.update(
                (job_id, subjects[record_id])
                for job_id, record_id in record_ids.items()
                if record_id in subjects
            )
        return found

    def select_jobs(self, text: str | None) -> tuple[Select[tuple[str]], ...]:
        """Return the selects of jobs whose learner or course contains a text."""
        if text is None:
            return ()
        return tuple(source.select_jobs(text) for source in self._sources)


def _named_in_payload(job: Job) -> JobSubject:
    user, course = job.payload.get(_USER_KEY), job.payload.get(_COURSE_KEY)
    return JobSubject(
        user if isinstance(user, str) else None, course if isinstance(course, str) else None
    )
