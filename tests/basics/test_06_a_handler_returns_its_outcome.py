"""6. A handler returns its outcome as a value; nothing is guessed."""

from datetime import timedelta
from typing import ClassVar

import pytest
from tests.support.kernel import Kernel

from homeroom.db.database import Database
from homeroom.jobs import api as jobs

pytestmark = pytest.mark.anyio


class Ring(jobs.JobArgs, frozen=True, kw_only=True):
    kind: ClassVar[str] = "basics.ring"
    queue: ClassVar[str] = "basics"


async def ring(ctx: jobs.JobContext, args: Ring) -> jobs.Outcome:
    return OUTCOMES[ctx.job.id]


OUTCOMES: dict[str, jobs.Outcome] = {
    "done": jobs.Done({"rung": 3}),
    "retry": jobs.Retry("the bell is stuck", after=timedelta(hours=1)),
    "snooze": jobs.Snooze(timedelta(hours=1), "it is night"),
    "fail": jobs.Fail("there is no bell"),
}


async def test_a_handler_returns_its_outcome(db: Database) -> None:
    kernel = Kernel(db)
    kernel.registry.add(Ring, ring)
    async with db.write() as tx:
        for name in OUTCOMES:
            await jobs.enqueue(tx, Ring(), id=name)

    await kernel.run_jobs()

    async with db.read() as tx:
        found = {name: await jobs.get(tx, name) for name in OUTCOMES}
    assert found["done"].result == {"rung": 3}
    recorded = {
        name: (job.state.value, job.attempts, job.last_error) for name, job in found.items()
    }
    assert recorded == {
        "done": ("completed", 1, None),
        "retry": ("delayed", 1, "the bell is stuck"),
        "snooze": ("delayed", 0, None),  # no attempt is spent
        "fail": ("failed", 1, "there is no bell"),  # and no retry follows
    }
