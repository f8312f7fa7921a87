"""5. A job is a row in the transaction of its cause: both commit, or neither."""

import pytest
from tests.support.basic_school import Applaud

from homeroom.db.database import Database
from homeroom.jobs.api import counts, enqueue, get, states

pytestmark = pytest.mark.anyio


async def test_a_cause_that_is_rolled_back_leaves_no_job(db: Database) -> None:
    async def cause() -> None:
        async with db.write() as tx:
            await enqueue(tx, Applaud(completion_id="c1"), id="completion.c1.applause")
            raise RuntimeError("the cause fails after all")

    with pytest.raises(RuntimeError):
        await cause()
    async with db.read() as tx:
        assert await states(tx, ["completion.c1.applause"]) == {}


async def test_a_natural_id_makes_adding_it_twice_one_job(db: Database) -> None:
    async with db.write() as tx:
        for _ in range(2):
            job_id = await enqueue(tx, Applaud(completion_id="c1"), id="completion.c1.applause")
    async with db.read() as tx:
        assert (await get(tx, job_id)).kind == "basics.applaud"
        assert sum((await counts(tx))["basics"].values()) == 1
