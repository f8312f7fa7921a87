"""4. Steps follow a completion: jobs that are enqueued in the same commit.

This school has one step; Homeroom has three: credential, analytics and HR.
"""

import pytest
from tests.support.basic_school import School, event

from homeroom.completion.api import Completions, CompletionStep, SkipReason
from homeroom.progress.api import Ingest

pytestmark = pytest.mark.anyio


async def test_a_step_follows_and_its_row_has_its_status(school: School) -> None:
    await school.publish("fire", "exits")
    await school.send(event("e1", "chapter_complete"))
    [completion] = await school.finished()
    [step] = await school.steps(completion)
    assert (step.name, step.status, school.applauded) == ("applause", "waiting", [])

    await school.work()

    [step] = await school.steps(completion)
    assert (step.status, school.applauded) == ("completed", [completion.id])


async def test_a_skipped_step_has_its_reason(school: School) -> None:
    declared = school.completions.steps["applause"]
    without = CompletionStep(
        "applause",
        declared.args,
        lambda completion, course: SkipReason("no_audience", "there is no audience"),
    )
    school.completions = Completions([without])
    school.ingest = Ingest(school.db, school.completions)
    async with school.open():
        await school.publish("fire", "exits")
        await school.send(event("e1", "chapter_complete"))
        [completion] = await school.finished()
    [step] = await school.steps(completion)
    assert (step.status, step.skip_code, step.job_id) == ("skipped", "no_audience", None)
    assert step.skip_reason == "there is no audience"
