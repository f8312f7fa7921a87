"""8. Publishing creates a version. Open learners move to it, completions stay."""

import pytest
from tests.support.basic_school import School, event

pytestmark = pytest.mark.anyio


async def test_a_removed_chapter_counts_no_more(school: School) -> None:
    await school.publish("fire", "exits", "alarm")
    await school.send(event("e1", "chapter_complete"))
    await school.publish("fire", "alarm")  # without the exits
    await school.send(event("e2", chapterId="alarm", progress=40))
    progress = await school.progress()
    assert (progress.version, progress.progress, progress.time_spent) == (2, 4_000, 0)


async def test_a_completion_stays(school: School) -> None:
    await school.publish("fire", "exits")
    await school.send(event("e1", "chapter_complete"))
    await school.publish("fire", "exits", "alarm")
    progress = await school.progress()
    assert (progress.version, progress.progress, progress.status) == (1, 10_000, "completed")
    assert progress.newer_version


async def test_an_equal_body_creates_no_version(school: School) -> None:
    first = await school.publish("fire", "exits")
    assert (await school.publish("fire", "exits")).version == first.version == 1
