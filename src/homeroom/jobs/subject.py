"""Learner and course that a job is for, as the features know them.

Payloads hold ids of records alone, since they go to Redis. A feature declares how to read the
learner of its records, and how to find the jobs of a learner; the kernel knows no feature.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from sqlalchemy import ColumnElement, Select

from homeroom.db.tx import Tx

_USER_KEY, _COURSE_KEY = "userId", "courseId"
_IDS_PER_STATEMENT = 500


@dataclass(frozen=True, slots=True)
class JobSubject:
    """The learner or recipient, the course and the completion of a job, if any."""

    user_id: str | None = None
    course_id: str | None = None
    completion_id: str | None = None


class JobWithPayload(Protocol):
    """A job, or what was read of one."""

    @property
    def id(self) -> str:
        """Return its id."""

    @property
    def payload(self) -> Mapping[str, Any]:
        """Return its arguments."""


ColumnMatch = Callable[[ColumnElement[str]], ColumnElement[bool]]
"""Returns the condition on a column that holds an id."""


@dataclass(frozen=True, slots=True)
class SubjectMatch:
    """Conditions on the columns that hold the ids of learners and of courses."""

    user: ColumnMatch
    course: ColumnMatch


@dataclass(frozen=True, slots=True)
class SubjectSource:
    """The subjects of the records of one kind that payloads name."""

    payload_key: str
    """The member of payloads that holds the id of such a record, as ``completionId``."""
    read: Callable[[Tx, Sequence[str]], Awaitable[Mapping[str, JobSubject]]]
    """Return the subjects of records by their ids."""
    select_jobs: Callable[[SubjectMatch], Select[tuple[str]]]
    """Select the ids of jobs whose learner or course matches."""


class JobSubjects:
    """The subjects of all features."""

    def __init__(self, sources: Sequence[SubjectSource] = ()) -> None:
        """Register the sources of the features."""
        self._sources = tuple(sources)

    async def describe(self, tx: Tx, jobs: Sequence[JobWithPayload]) -> dict[str, JobSubject]:
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

    def select_jobs(self, match: SubjectMatch) -> tuple[Select[tuple[str]], ...]:
        """Return the selects of jobs whose learner or course matches."""
        return tuple(source.select_jobs(match) for source in self._sources)


def _named_in_payload(job: JobWithPayload) -> JobSubject:
    user, course = job.payload.get(_USER_KEY), job.payload.get(_COURSE_KEY)
    return JobSubject(
        user if isinstance(user, str) else None, course if isinstance(course, str) else None
    )
