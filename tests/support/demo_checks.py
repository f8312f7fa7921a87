"""Checks of a demo environment's data and log after faults under load."""

from __future__ import annotations

import json
from pathlib import Path

from tests.support.database import database_at

from homeroom.catalogue import api as catalogue
from homeroom.demo.environment import DemoEnvironment
from homeroom.demo.player import acknowledged_seconds
from homeroom.progress import ingest_store, store
from homeroom.progress.ledger import project_attempts


async def check_ledger(made: DemoEnvironment, database: Path | str) -> None:
    """Check that exactly the acknowledged events are stored, each once."""
    db = database_at(database)
    await db.open()
    try:
        async with db.read() as tx:
            stored: dict[str, int] = dict(
                await tx.fetch("SELECT id, time_spent FROM progress_event")
            )
            [[rows]] = await tx.fetch("SELECT count(*) FROM progress_event")
            [[active]] = await tx.fetch("SELECT count(*) FROM job WHERE state = 'active'")
            duplicates = await tx.fetch(
                "SELECT user_id, course_id, attempt FROM completion"
                " GROUP BY user_id, course_id, attempt HAVING count(*) > 1"
            )
    finally:
        await db.close()
    acknowledged = made.answers.with_status("accepted", "duplicate", "quarantined")
    assert len(stored) == rows
    assert acknowledged <= stored.keys()
    assert stored.keys() <= made.expected.ids("counted", "held")
    assert sum(stored.values()) == acknowledged_seconds(made.answers, made.expected.time_spent)
    assert active == 0
    assert duplicates == []


def check_log(made: DemoEnvironment) -> None:
    """Check that the server logged no unexpected error."""
    text = made.server.log.read_text(encoding="utf-8")
    assert "Traceback" not in text
    events = [json.loads(line) for line in text.splitlines() if line.startswith("{")]
    errors = {event["event"] for event in events if event["level"] not in {"info", "warning"}}
    assert errors <= {"database_fault_began", "worker_gone"}
    began, ended = (
        {event["cause"] for event in events if event["event"] == f"database_fault_{name}"}
        for name in ("began", "ended")
    )
    assert began <= ended


async def check_replay(made: DemoEnvironment, database: Path | str) -> None:
    """Check that a replay of the ledger equals the stored states of all courses."""
    db = database_at(database)
    await db.open()
    try:
        async with db.read() as tx:
            pairs = sorted(made.expected.courses)
            enrolments = await catalogue.enrolments(tx, pairs)
            compared = 0
            for pair in pairs:
                last_seq = await store.find_last_seq(tx, pair)
                projections, courses = await project_attempts(tx, enrolments[pair], last_seq)
                stored_states, _ = await ingest_store.course_states(tx, [pair])
                for enrolment in enrolments[pair]:
                    key = (*pair, enrolment.attempt)
                    replayed = projections[enrolment.attempt]
                    if key in stored_states:
                        compared += 1
                        assert stored_states[key] == replayed.course_state(
                            courses[enrolment.version]
                        )
    finally:
        await db.close()
    started = sum(each.status != "registered" for each in made.expected.courses.values())
    assert compared == started
