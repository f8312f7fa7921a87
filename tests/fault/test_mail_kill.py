"""Workers killed with -9 while they send many mails over a few connections.

No mail goes out twice, and a delivery is ``unknown`` only where its worker held it (decision 0014).
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from tests.support import mail_worker
from tests.support.condition import until_async
from tests.support.effort import EFFORT
from tests.support.mail_server import mail_server

from homeroom.db.sqlite.database import SqliteDatabase
from homeroom.notify.api import EXAMPLE_PARAMS, Message
from homeroom.people import api as people
from homeroom.people.api import Person

pytestmark = [pytest.mark.anyio, pytest.mark.fault, pytest.mark.xdist_group("fault")]
MAILS, KILLS = 80, 2 * EFFORT


async def test_no_mail_is_sent_twice_and_none_is_lost_when_workers_are_killed(
    sqlite: SqliteDatabase, database_file: Path
) -> None:
    ids = [f"u{number:03}" for number in range(MAILS)]
    async with mail_server() as server:
        notifications = mail_worker.mail_notifications(sqlite, server.port)
        params = EXAMPLE_PARAMS["log_reminder"]
        async with sqlite.write() as tx:
            for id in ids:
                await people.put(tx, Person(id, f"{id}@example.org", "Ada", "Example"))
            await notifications.send(tx, [Message(id, "log_reminder", id, params) for id in ids])

        def start() -> subprocess.Popen[bytes]:
            words = [sys.executable, mail_worker.__file__, str(database_file), str(server.port)]
            return subprocess.Popen(words, stdout=subprocess.DEVNULL)

        async def statuses() -> Counter[str]:
            async with sqlite.read() as tx:
                rows = await tx.fetch("SELECT status FROM delivery WHERE channel = 'email'")
            return Counter(status for (status,) in rows)

        async def is_done() -> bool:
            found = await statuses()
            return not found["pending"] and not found["sending"]

        for kill in range(KILLS):
            worker = start()

            async def has_sent_some(wanted: int = MAILS * (kill + 1) // (KILLS + 2)) -> bool:
                return len(server.mails) >= wanted or await is_done()

            await until_async(has_sent_some, 0.005)
            worker.kill()
            await asyncio.to_thread(worker.wait)
        worker = start()
        try:
            await until_async(is_done)
        finally:
            worker.terminate()
            await asyncio.to_thread(worker.wait, 30)
        found = await statuses()
        received = Counter(mail["To"] for mail in server.mails)
    assert set(received.values()) == {1}
    assert found["accepted"] + found["unknown"] == MAILS
    assert found["unknown"] <= KILLS * mail_worker.CONCURRENCY
    assert len(received) >= found["accepted"]
    # Fewer sessions than mails: they do share connections.
    assert server.sessions <= (KILLS + 1) * mail_worker.CONCURRENCY
