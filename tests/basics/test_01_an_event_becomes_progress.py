"""1. A player reports what a learner did, and the learner's course shows it.

Progress is basis points inside (5,000 is 50 %), time spent is seconds.
"""

import pytest
from tests.support.basic_school import School, event

pytestmark = pytest.mark.anyio


async def test_an_event_becomes_progress(school: School) -> None:
    await school.publish("fire", "exits", "alarm")

    counts = await school.send(event("e1", progress=100, timeSpent=300))

    assert counts["accepted"] == 1  # stored, with all that follows
    progress = await school.progress()
    assert (progress.progress, progress.time_spent, progress.status) == (5_000, 300, "in_progress")


async def test_progress_is_the_most_that_was_reported(school: School) -> None:
    await school.publish("fire", "exits")
    await school.send(event("later", progress=80, timestamp="2026-11-20T10:00:00Z"))
    await school.send(event("earlier", progress=30))  # arrives late, and changes nothing
    assert (await school.progress()).progress == 8_000


async def test_a_bad_event_does_not_fail_its_neighbours(school: School) -> None:
    await school.publish("fire", "exits")
    counts = await school.send(event("good", progress=10), event("bad", progress=250))
    assert (counts["accepted"], counts["rejected"]) == (1, 1)
