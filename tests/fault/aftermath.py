"""What must be true of a school's data and log after its servers were broken under load."""

from __future__ import annotations

import json
from pathlib import Path

from tests.servers.database import database_at

from homeroom.catalogue import api as catalogue
from homeroom.demo.player import acknowledged_seconds
from homeroom.demo.school import School
from homeroom.progress import store
from homeroom.progress.rebuild import project


async def check_ledger(made: School, place: Path | str) -> None:
    """Every acknowledged event is stored once, and nothing is that was not sent."""
    db = database_at(place)
    await db.open()
    try:
        async with db.read() as tx:
            stored = dict(await tx.fetch("SELECT id, time_spent FROM progress_event"))
            [[rows]] = await tx.fetch("SELECT count(*) FROM progress_event")
            [[active]] = await tx.fetch("SELECT count(*) FROM job WHERE state = 'active'")
            doubled = await tx.fetch(
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
    assert doubled == []


def check_log(made: School) -> None:
    """The server never met anything that it did not expect."""
    text = made.server.log.read_text(encoding="utf-8")
    assert "Traceback" not in text
    levels = {json.loads(line)["level"] for line in text.splitlines() if line.startswith("{")}
    assert levels <= {"info", "warning"}


async def check_replay(made: School, place: Path | str) -> None:
    """The ledger's replay gives what ingest kept, for every learner and course."""
    db = database_at(place)
    await db.open()
    try:
        async with db.read() as tx:
            pairs = sorted(made.expected.courses)
            windows = await catalogue.enrolments(tx, pairs)
            compared = 0
            for pair in pairs:
                last_seq = await store.last_seq(tx, pair)
                projections, courses = await project(tx, windows[pair], last_seq)
                kept, _ = await store.courses(tx, [pair])
                for enrolment in windows[pair]:
                    key = (*pair, enrolment.attempt)
                    replayed = projections[enrolment.attempt]
                    if key in kept:
                        compared += 1
                        assert kept[key] == replayed.course_state(courses[enrolment.version])
    finally:
        await db.close()
    began = sum(each.status != "registered" for each in made.expected.courses.values())
    assert compared == began
