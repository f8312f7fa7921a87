"""The benchmarks run, in their smallest size; what they measure is never asserted here."""

from __future__ import annotations

import pytest
from bench.filled import SMALL
from tests.support.missing_server import skip_or_fail
from tools.servers.debian import Missing

from bench import (
    credentials,
    finish,
    idle,
    ingest,
    ingest_postgres,
    jobs,
    jobs_shared,
    memory,
    notify,
    plans,
    report,
    startup,
    viewers,
)

pytestmark = [pytest.mark.xdist_group("bench")]


ANSWERED_SECONDS = 1.0
"""What 8 connections ask at once, the slowest reference takes 0.3 s to answer on two busy cores."""


def test_ingest_is_measured_with_exact_sums_against_every_reference() -> None:
    found = ingest.measure(rounds=1, seconds=ANSWERED_SECONDS, size=SMALL)
    assert found["sums"] == "exact in every run"
    assert all(one["events_per_second"] > 0 for one in found["medians"].values())
    assert {"bare", "homeroom, v7 ids", "homeroom, v4 ids"} <= found["medians"].keys()


def test_ingest_on_postgresql_is_measured_with_exact_sums_against_every_reference() -> None:
    try:
        found = ingest_postgres.measure(rounds=1, seconds=ANSWERED_SECONDS, size=SMALL)
    except Missing as missing:
        skip_or_fail(missing)
    assert found["sums"] == "exact in every run"
    assert all(one["events_per_second"] > 0 for one in found["medians"].values())
    assert found["ratios"].keys() >= {"v7 over bare", "v7 over naive", "v7 over express"}


def test_jobs_are_measured_against_another_queue() -> None:
    found = jobs.measure(jobs=60, picks=3, rounds=1)
    assert any(name.startswith("huey") for name in found["medians"])
    assert all(one["drained_per_second"] > 0 for one in found["medians"].values())


def test_jobs_on_servers_are_measured_with_their_rows_against_other_queues() -> None:
    try:
        found = jobs_shared.measure(jobs=30, picks=2, rounds=1)
    except Missing as missing:
        skip_or_fail(missing)
    queues = {name.split(",")[0] for name in found["medians"]}
    assert queues == {"homeroom", "homeroom with BullMQ", "bullmq", "procrastinate", "pgqueuer"}
    assert all(one["drained_per_second"] > 0 for one in found["medians"].values())
    assert 0 < found["redis, 1,000 waiting jobs"]["homeroom with BullMQ, MiB"] < 10


def test_a_finishing_request_is_measured_with_all_its_steps_done() -> None:
    found = finish.measure(learners=5)
    assert found["finishingMs"]["p50"] > 0
    assert found["otherMs"]["p50"] > 0


def test_starts_of_generations_are_measured_beside_others_that_run() -> None:
    found = plans.measure(plans=5, busy=3, runs=1)
    assert found["startMs"]["p99"] > 0
    assert found["generatingAtTheEnd"] > 0
    assert found["exampleSeconds"]["max"] > 0


def test_monitoring_is_measured_beside_a_server_without_it() -> None:
    found = idle.measure(seconds=1.0, pairs=1, load_seconds=1.0)
    assert found["idle"]["percent_of_a_core_on"] > 0
    assert found["events"]["us_per_event_on"] > 0
    assert found["events"]["us_per_event_off"] > 0


def test_memory_is_measured_before_and_after_a_load() -> None:
    found = memory.measure(seconds=1.0, finished=3, settle=(1, 1))
    assert found["events"] > 0
    assert found["idleMiB"] > 0
    assert found["afterMiB"] > 0


def test_the_start_of_commands_is_measured_beside_a_typer_program() -> None:
    found = startup.measure(rounds=1)
    assert all(one["cpu_ms"] > 0 for one in found["medians"].values())
    assert "homeroom jobs list over typer --help" in found["ratios"]


def test_messages_are_measured_from_the_call_to_the_inbox_and_the_mailbox() -> None:
    found = notify.measure(count=20, mails=5, rounds=1)["medians"]["homeroom"]
    assert found["queue_seconds"] < found["inbox_seconds"]
    assert found["mails_per_second"] > 0


def test_the_page_shows_every_figure() -> None:
    measured = {"idleMiB": 98.7, "medians": {"ours": {"rate": 12_345.0}}}
    page = report.page({"memory": {"machine": {"cores": 2}, "measured": measured}})
    assert "| idleMiB | 98.7 |" in page
    assert "| ours | 12,345 |" in page
    assert "cores 2" in page


def test_credentials_are_measured_alone_and_at_once() -> None:
    found = credentials.measure(alone=2, at_once=5, files=1)
    assert found["certificates"].keys() == {"pdf", "png", "svg"}
    assert found["signing job at rest, median ms"] > 0


def test_ingest_is_measured_with_and_without_viewers_who_get_every_hint() -> None:
    found = viewers.measure(viewers=25, requests=10)
    assert found["hints"] >= 25
    assert found["with viewers"]["p50_ms"] > 0
    assert found["without viewers"]["p50_ms"] > 0
