"""Counters of transactions, counted once they are committed (``Tx.count``)."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily

from homeroom.db.tx import CounterKey

_JOB = ("queue", "kind")
COMMITTED_COUNTERS: Mapping[str, tuple[str, tuple[str, ...]]] = MappingProxyType(
    {
        "jobs_enqueued": ("Jobs added", _JOB),
        "jobs_completed": ("Jobs completed", _JOB),
        "jobs_failed": (
            "Jobs that are not tried again, by the code of the reason",
            (*_JOB, "error_class"),
        ),
        "jobs_retried": ("Failed attempts that another one follows", _JOB),
        "jobs_cancelled": ("Jobs cancelled", _JOB),
        "jobs_stalled": ("Attempts whose worker died or was silent for its lease", _JOB),
        "schedule_runs": (
            "Slots of schedules: ok, late or missed; failed: the job of a slot has failed",
            ("schedule", "outcome"),
        ),
        "completions": ("Completions recorded", ()),
        "completion_steps": (
            "Steps of completions that reached a status",
            ("step", "status"),
        ),
        "dispatches": (
            "Attempts to send a message to a destination: delivered, retry, held or failed",
            ("destination", "outcome"),
        ),
        "plan_lessons": (
            "Lessons generated: written, incomplete or discarded",
            ("generator", "outcome"),
        ),
        "plan_cost": ("Cost of the calls of language models", ("currency",)),
        "notification_deduplicated": ("Messages whose key was known", ("type",)),
        "notification_provider_errors": (
            "Failed attempts of deliveries: 4xx, 5xx, timeout or other",
            ("channel", "code_class"),
        ),
    }
)
"""The help and the labels of the counters, by name without ``homeroom_`` and ``_total``."""


def counter_families(counts: Mapping[CounterKey, float]) -> list[Metric]:
    """Return all counters with the values that a process has counted."""
    families = {
        name: CounterMetricFamily(f"homeroom_{name}", text, labels=labels)
        for name, (text, labels) in COMMITTED_COUNTERS.items()
    }
    for (name, labels), value in list(counts.items()):
        families[name].add_metric(labels, value)
    return list(families.values())
