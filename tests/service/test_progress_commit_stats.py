"""Counts of an ingest transaction reach the metrics after its commit only."""

from __future__ import annotations

import json

import pytest
from tests.support.progress_school import event

from homeroom.completion.api import Completions
from homeroom.db.database import Database
from homeroom.progress.event import EventSender, ProgressEvent
from homeroom.progress.event_body import decode_body
from homeroom.progress.ingestion import CommitStats, Ingest

pytestmark = [pytest.mark.anyio, pytest.mark.service]


async def test_a_rolled_back_transaction_is_not_counted(db: Database) -> None:
    seen: list[CommitStats] = []
    ingest = Ingest(db, Completions([]), observe=seen.append)
    body = json.dumps([event("1"), event("2")]).encode()
    sender = EventSender(person=None, trusted=True, may_manage=True)
    events = [
        each
        for each in decode_body(body, sender, db.clock.now())
        if isinstance(each, ProgressEvent)
    ]

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
