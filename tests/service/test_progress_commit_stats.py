"""What an ingest transaction did is told to the metrics once it is committed, and only then."""

from __future__ import annotations

import json

import pytest
from tests.service.progress_school import event

from homeroom.completion.api import Completions
from homeroom.db.database import Database
from homeroom.progress.event import Event, Sender, read_body
from homeroom.progress.ingest import CommitStats, Ingest

pytestmark = [pytest.mark.anyio, pytest.mark.service]


async def test_what_was_rolled_back_is_not_counted(db: Database) -> None:
    seen: list[CommitStats] = []
    ingest = Ingest(db, Completions([]), observe=seen.append)
    body = json.dumps([event("1"), event("2")]).encode()
    sender = Sender(person=None, trusted=True, may_manage=True)
    events = [each for each in read_body(body, sender, db.clock.now()) if isinstance(each, Event)]

    async def fail_late() -> None:
        async with db.write() as tx:
            await ingest._apply(tx, [events])
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail_late()
    assert seen == []
    async with db.write() as tx:
        await ingest._apply(tx, [events])
    assert [(stats.requests, stats.events) for stats in seen] == [(1, 2)]
