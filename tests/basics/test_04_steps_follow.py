"""4. What must follow a completion are steps. Each is a job of its own, made in the same commit.

This school has one step; Homeroom itself has three: credential, analytics and HR.
"""

import pytest
from tests.basics.school import School, event

from homeroom.completion.api import Completions, Step
from homeroom.progress.api import Ingest

pytestmark = pytest.mark.anyio


async def test_a_step_follows_and_its_row_says_how_far_it_is(school: School) -> None:
    await school.publish("fire", "exits")
    await school.send(event("e1", "chapter_complete"))
    [completion] = await school.finished()
    [step] = await school.steps(completion)
    assert (step.name, step.status, school.heard) == ("applause", "waiting", [])

    await school.work()

    [step] = await school.steps(completion)
    assert (step.status, school.heard) == ("completed", [completion.id])


async def test_a_step_that_cannot_be_done_says_why(school: School) -> None:
    declared = school.completions.steps["applause"]
    without = Step("applause", declared.args, lambda completion, course: "nobody is there")
    school.completions = Completions([without])
    school.ingest = Ingest(school.db, school.completions)
    async with school.open():
        await school.publish("fire", "exits")
        await school.send(event("e1", "chapter_complete"))
        [completion] = await school.finished()
    [step] = await school.steps(completion)
    assert (step.status, step.skip_reason, step.job_id) == ("skipped", "nobody is there", None)
