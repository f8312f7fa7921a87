"""7. If the worker of a job dies, the lease expires and the job runs again."""

import asyncio
import os
import signal
import sys
from datetime import timedelta
from pathlib import Path

import pytest
from tests.support.basic_school import Applaud, School

from homeroom.jobs.api import JobState, enqueue, get

pytestmark = pytest.mark.anyio
TREE = Path(__file__).parents[2]


async def test_a_killed_workers_job_runs_elsewhere(school: School, database: Path | str) -> None:
    async with school.db.write() as tx:
        job_id = await enqueue(tx, Applaud(completion_id="c1"))
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.support.hanging_worker",
        str(database),
        cwd=TREE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    try:
        while (line := await process.stdout.readline()) != b"the handler runs\n":
            assert line, "the worker ended before it ran anything"
    finally:
        os.kill(process.pid, signal.SIGKILL)
    await process.communicate()

    async with school.db.read() as tx:
        assert (await get(tx, job_id)).state is JobState.ACTIVE  # its lease has not expired
    school.db.clock.advance(timedelta(seconds=31))
    await school.kernel.maintenance.tick()
    await school.work()

    async with school.db.read() as tx:
        job = await get(tx, job_id)
    assert (job.state, job.attempts) == (JobState.COMPLETED, 2)  # started twice (decision 0006)
    assert school.applauded == ["c1"]
