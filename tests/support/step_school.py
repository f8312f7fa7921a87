"""A school with steps of a test's choice, built as a server builds them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import httpx
from tests.support.kernel import Kernel

from homeroom.catalogue.api import Catalogue
from homeroom.completion.api import (
    ChapterRecord,
    Completions,
    ListedStep,
    NewCompletion,
    Step,
    StepContext,
)
from homeroom.credentials.api import BuiltInLearnerDirectory
from homeroom.db.database import Database
from homeroom.db.tx import Tx
from homeroom.dispatch.api import Dispatch, Dispatches, MessageStep

COURSE = {
    "title": "Data for everyone",
    "units": [{"id": "u", "title": "U", "chapters": [{"id": "c1", "title": "One"}]}],
}
COMPLETED_AT = 1_795_338_000_123_456


@dataclass
class StepSchool:
    """The packages of steps on one database, with a kernel."""

    db: Database
    client: httpx.AsyncClient
    completions: Completions
    dispatches: Dispatches
    kernel: Kernel

    async def complete(self, user_id: str) -> str:
        """Record a completion of the course and return its id."""
        async with self.db.write() as tx:
            course = (await Catalogue().publish(tx, "data", COURSE)).course
            chapters = (ChapterRecord("c1", 10_000, 5_400, True),)
            new = NewCompletion(user_id, course, 1, COMPLETED_AT, 8_750, 5_400, chapters)
            [recorded] = await self.completions.record(tx, [new])
        return recorded.id

    async def step(self, completion_id: str, name: str) -> ListedStep:
        """Return a step of a completion."""
        async with self.db.read() as tx:
            steps = (await self.completions.list_steps(tx, [completion_id]))[completion_id]
        return next(step for step in steps if step.name == name)

    async def dispatches_to(self, name: str) -> list[Dispatch]:
        """Return the dispatches to a destination, the newest first."""
        async with self.db.read() as tx:
            return await self.dispatches.list_newest(tx, name, None, None, 100)


def step_school(
    db: Database,
    client: httpx.AsyncClient,
    kinds: Sequence[type[Step]],
    parts: Mapping[type[Any], Any] | None = None,
    settings: Any = None,
) -> StepSchool:
    """Build these steps; ``settings`` are those of each step."""

    async def no_credential(tx: Tx, completion_id: str) -> None:
        return None

    completions, kernel = Completions(), Kernel(db)
    dispatches = Dispatches(
        db,
        source="https://school.example",
        analytics=None,
        hr=None,
        credential_url=no_credential,
    )
    context = StepContext(
        db,
        client,
        "https://school.example",
        BuiltInLearnerDirectory(db),
        settings,
        {Completions: completions, Dispatches: dispatches, **(parts or {})},
    )
    steps = [kind(context) for kind in kinds]
    completions.declare([step.declaration() for step in steps])
    for step in steps:
        completions.register(kernel.registry, step)
    senders = [step for step in steps if isinstance(step, MessageStep)]
    dispatches.register(kernel.registry, completions, senders)
    return StepSchool(db, client, completions, dispatches, kernel)
