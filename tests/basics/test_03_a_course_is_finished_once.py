"""3. The commit that fulfils all criteria completes the course, exactly once."""

import pytest
from tests.support.basic_school import School, event

pytestmark = pytest.mark.anyio


async def test_a_course_is_finished_once(school: School) -> None:
    await school.publish("fire", "exits", "alarm")
    await school.send(event("e1", "chapter_complete", timestamp="2026-11-20T09:00:00Z"))
    assert await school.finished() == []

    alarm = event("e2", "chapter_complete", chapterId="alarm", timestamp="2026-11-21T09:00:00Z")
    await school.send(alarm)
    [completion] = await school.finished()
    assert (await school.progress()).status == "completed"
    # The date is that of the event, not of its arrival.
    assert completion.completed_at == (await school.progress()).completed_at

    await school.send({**alarm, "id": "e3", "timestamp": "2026-11-22T09:00:00Z"})
    assert await school.finished() == [completion]


async def test_the_criteria_decide_completion(school: School) -> None:
    criteria = {"all": [{"type": "all_items"}, {"type": "min_time", "seconds": 600}]}
    await school.publish("fire", "exits", criteria=criteria)
    await school.send(event("e1", "chapter_complete", timeSpent=60))
    assert ((await school.progress()).progress, await school.finished()) == (10_000, [])
    await school.send(event("e2", "heartbeat", timeSpent=540))
    assert len(await school.finished()) == 1
