"""No-op jobs by pgqueuer: run as a program, with its own packages first on the path.

It prints what `bench.drain` measures, as JSON; with `--install` it only makes its tables.

    python -m bench.references.pgqueuer_jobs --database postgresql://... --jobs 2000 --picks 20
"""

import argparse
import asyncio
import json
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
import uvloop
from pgqueuer import PgQueuer
from pgqueuer.models import Job
from pgqueuer.queries import Queries

from bench.drain import Meter, Numbers, drain


async def measure(url: str, jobs: int, picks: int, batch: int) -> Numbers:
    """Measure on a database with pgqueuer's tables; ``batch`` is how many it takes at once."""
    async with asyncpg.create_pool(url) as pool:
        meter, queuer = Meter(), PgQueuer.from_asyncpg_pool(pool)
        queries = Queries(queuer.connection)

        @queuer.entrypoint("noop")
        async def noop(job: Job) -> None:
            meter.count()

        async def unfinished() -> bool:
            # Finished jobs go to its log.
            return await pool.fetchrow("SELECT 1 FROM pgqueuer LIMIT 1") is not None

        @asynccontextmanager
        async def working() -> AsyncIterator[None]:
            task = asyncio.create_task(queuer.qm.run(batch_size=batch))
            yield
            queuer.shutdown.set()
            await task

        return await drain(
            meter,
            jobs,
            picks,
            add=lambda number: queries.enqueue("noop", str(number).encode()),
            working=working(),
            unfinished=unfinished,
        )


async def install(url: str) -> None:
    """Make pgqueuer's tables in a database."""
    async with asyncpg.create_pool(url, min_size=1) as pool:
        await Queries(PgQueuer.from_asyncpg_pool(pool).connection).install()


def main() -> None:
    """Measure and print JSON."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--database", required=True)
    parser.add_argument("--install", action="store_true")
    parser.add_argument("--jobs", type=int, default=2_000)
    parser.add_argument("--picks", type=int, default=20)
    parser.add_argument("--batch", type=int, default=10)
    given = parser.parse_args()
    logging.disable(logging.ERROR)
    if given.install:
        uvloop.run(install(given.database))
        return
    print(json.dumps(uvloop.run(measure(given.database, given.jobs, given.picks, given.batch))))


if __name__ == "__main__":
    main()
