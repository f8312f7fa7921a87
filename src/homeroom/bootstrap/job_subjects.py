"""The registry of learners and courses of jobs in all packages."""

from __future__ import annotations

from homeroom.completion.subject_store import SUBJECTS as OF_COMPLETIONS
from homeroom.completion.subject_store import select_completions
from homeroom.dispatch.subject_store import subject_source
from homeroom.jobs.subject import JobSubjects
from homeroom.lessonplans.subject_store import SUBJECTS as OF_PLANS
from homeroom.notify.subject_store import SUBJECTS as OF_DELIVERIES

JOB_SUBJECTS = JobSubjects(
    (OF_COMPLETIONS, subject_source(OF_COMPLETIONS, select_completions), OF_DELIVERIES, OF_PLANS)
)
