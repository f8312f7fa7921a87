"""Defaults live in the settings; a parameter that repeats one has the same value."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from homeroom.db.group_commit import GroupCommitLimits
from homeroom.db.postgres.database import PostgresDatabase
from homeroom.http.app import create_app
from homeroom.http.server import serve_app
from homeroom.jobs.engines.bullmq import BullmqEngine
from homeroom.jobs.worker import Worker
from homeroom.lessonplans.api import LessonRetryPolicy, ModelConfig
from homeroom.notify.api import Notifications
from homeroom.progress.api import ProgressJobs
from homeroom.settings import Settings

REPEATED = [
    (Worker, "concurrency", "concurrency"),
    (Worker, "lease", "job_lease"),
    (Worker, "grace", "shutdown_grace"),
    (BullmqEngine, "lease", "job_lease"),
    (BullmqEngine, "keep_failed", "jobs_keep_failed"),
    (PostgresDatabase, "connections", "database_connections"),
    (GroupCommitLimits, "max_waiting", "ingest_max_queue"),
    (GroupCommitLimits, "max_batch", "ingest_max_batch"),
    (GroupCommitLimits, "max_retries", "ingest_max_retries"),
    (GroupCommitLimits, "timeout_seconds", "ingest_task_timeout"),
    (GroupCommitLimits, "retry_delay_seconds", "ingest_retry_delay"),
    (ProgressJobs, "quarantine_ttl", "quarantine_ttl"),
    (ProgressJobs, "event_retention", "event_retention"),
    (Notifications, "text_retention", "notification_retention"),
    (ModelConfig, "max_tokens", "llm_max_tokens"),
    (ModelConfig, "timeout", "llm_timeout"),
    (ModelConfig, "currency", "llm_currency"),
    (LessonRetryPolicy, "retries", "llm_retries"),
    (create_app, "max_body_bytes", "max_body_bytes"),
    (serve_app, "grace_seconds", "shutdown_grace"),
]


@pytest.mark.parametrize(
    ("callable_", "parameter", "setting"),
    REPEATED,
    ids=[f"{each.__name__}.{parameter}" for each, parameter, _ in REPEATED],
)
def test_a_repeated_default_is_that_of_the_setting(
    callable_: Callable[..., Any], parameter: str, setting: str
) -> None:
    repeated = inspect.signature(callable_).parameters[parameter].default
    if repeated is inspect.Parameter.empty:
        return  # required, so that the setting is the only source
    default = Settings.model_fields[setting].default
    if isinstance(default, timedelta) and not isinstance(repeated, timedelta):
        default = default.total_seconds()
    assert repeated == default
