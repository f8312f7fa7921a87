"""What features may call: adding jobs, declaring kinds and outcomes, asking how jobs stand."""

from __future__ import annotations

from homeroom.jobs.args import HIGH, LOW, NORMAL, JobArgs, SlotArgs
from homeroom.jobs.backoff import Backoff
from homeroom.jobs.enqueue import (
    Order,
    UnknownDependency,
    add,
    add_high_priority,
    add_low_priority,
    enqueue,
    enqueue_all,
)
from homeroom.jobs.handler import Handler, JobContext, LeaseLost, Registry, UnknownJobKind
from homeroom.jobs.job import FINISHED, Job, JobState
from homeroom.jobs.operate import cancel, clean, forget, promote, remove, retry
from homeroom.jobs.outcome import Cancel, Done, Fail, Outcome, Retry, Snooze
from homeroom.jobs.personal import work_of, work_on, work_that_names
from homeroom.jobs.queue_store import pause, resume, workers
from homeroom.jobs.schedule_store import FiredSlot, declare_schedule, remove_schedule
from homeroom.jobs.store import Attempt, Filter, attempts, counts, find, get, logs, search, states

__all__ = [
    "FINISHED",
    "HIGH",
    "LOW",
    "NORMAL",
    "Attempt",
    "Backoff",
    "Cancel",
    "Done",
    "Fail",
    "Filter",
    "FiredSlot",
    "Handler",
    "Job",
    "JobArgs",
    "JobContext",
    "JobState",
    "LeaseLost",
    "Order",
    "Outcome",
    "Registry",
    "Retry",
    "SlotArgs",
    "Snooze",
    "UnknownDependency",
    "UnknownJobKind",
    "add",
    "add_high_priority",
    "add_low_priority",
    "attempts",
    "cancel",
    "clean",
    "counts",
    "declare_schedule",
    "enqueue",
    "enqueue_all",
    "find",
    "forget",
    "get",
    "logs",
    "pause",
    "promote",
    "remove",
    "remove_schedule",
    "resume",
    "retry",
    "search",
    "states",
    "work_of",
    "work_on",
    "work_that_names",
    "workers",
]
