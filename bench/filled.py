"""What the tables of an ingest benchmark hold before the clock starts, on whatever engine."""

import json
import random
import time
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from homeroom.catalogue.api import Catalogue
from homeroom.db.database import Database

COURSE = "course-000"


@dataclass(frozen=True)
class Size:
    """What the tables hold before the clock starts."""

    learners: int = 10_000
    chapters: int = 50
    """Each learner has a row in each chapter."""
    events: int = 1_000_000
    """Ledger rows, with random ids."""
    connections: int = 64
    """Connections that send once the clock runs."""


SMALL = Size(learners=200, chapters=20, events=5_000, connections=8)


class Filled(NamedTuple):
    """The rows of a table, made while they are read."""

    table: str
    columns: tuple[str, ...]
    rows: Iterable[tuple[object, ...]]


async def publish(db: Database, chapters: int) -> None:
    """Publish the course of the benchmark in a database that is not open yet."""
    await db.open()
    parts = [{"id": f"chapter-{each:03d}", "title": f"Chapter {each}"} for each in range(chapters)]
    body = {"title": "Bench", "units": [{"id": "unit", "title": "Unit", "chapters": parts}]}
    async with db.write() as tx:
        await Catalogue().publish(tx, COURSE, body)
    await db.close()


def tables(size: Size) -> Iterator[Filled]:
    """Yield tables in which every learner has begun every chapter, and the ledger is long.

    They are to be read in this order and to their ends: a learner's ledger rows are a chain, as
    ingest makes it, and the course names the last one.
    """
    draw, at = random.Random(7), time.time_ns() // 1_000
    learners = [f"learner-{each:06d}" for each in range(size.learners)]
    chapters = [f"chapter-{each:03d}" for each in range(size.chapters)]
    last: dict[str, int] = {}

    def ledger() -> Iterator[tuple[object, ...]]:
        for seq in range(1, size.events + 1):
            id, learner = uuid.UUID(int=draw.getrandbits(128), version=4), draw.choice(learners)
            yield (
                seq, str(id), learner, COURSE, draw.choice(chapters), "chapter_progress", 1_000, 3,
                at, at, 1, 1, draw.randbytes(16), 0, last.get(learner),
            )  # fmt: skip
            last[learner] = seq

    begun = json.dumps({chapter: [1_000, 60, None, None, 1] for chapter in chapters})
    weight, spent = size.chapters * 10_000 * 1_000, size.chapters * 60
    yield Filled(
        "enrolment",
        ("user_id", "course_id", "attempt", "version", "status", "enrolled_at", "opened_at",
         "approved"),
        ((learner, COURSE, 1, 1, "in_progress", at, 0, 0) for learner in learners),
    )  # fmt: skip
    yield Filled(
        "progress_event",
        ("seq", "id", "user_id", "course_id", "chapter_id", "type", "progress", "time_spent",
         "occurred_at", "received_at", "course_version", "attempt", "body_hash", "flags",
         "previous"),
        ledger(),
    )  # fmt: skip
    yield Filled(
        "course_progress",
        ("user_id", "course_id", "attempt", "version", "weighted_sum", "required_satisfied",
         "satisfied", "time_spent", "unattributed", "last_at", "last_seq", "chapters"),
        (
            (learner, COURSE, 1, 1, weight, 0, 0, spent, 0, 1, last.get(learner, 0), begun)
            for learner in learners
        ),
    )  # fmt: skip
