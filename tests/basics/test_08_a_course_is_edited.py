"""8. A publish makes a new version. Open learners move on; who has finished keeps it all."""

import pytest
from tests.basics.school import School, event

pytestmark = pytest.mark.anyio


async def test_a_removed_chapter_counts_no_more(school: School) -> None:
    await school.publish("fire", "exits", "alarm")
    await school.send(event("e1", "chapter_complete"))
    await school.publish("fire", "alarm")  # without the exits
    await school.send(event("e2", chapterId="alarm", progress=40))
    line = await school.progress()
    assert (line.version, line.progress, line.time_spent) == (2, 4_000, 0)


async def test_who_has_finished_keeps_it(school: School) -> None:
    await school.publish("fire", "exits")
    await school.send(event("e1", "chapter_complete"))
    await school.publish("fire", "exits", "alarm")
    line = await school.progress()
    assert (line.version, line.progress, line.status) == (1, 10_000, "completed")
    assert line.newer_version


async def test_the_same_body_again_makes_no_new_version(school: School) -> None:
    first = await school.publish("fire", "exits")
    assert (await school.publish("fire", "exits")).version == first.version == 1
