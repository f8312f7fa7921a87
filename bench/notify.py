"""Measure messages: handing 10,000 over, having them in 10,000 inboxes, and mailing them.

``queue`` is one call, one transaction: a message, an inbox row, a mail delivery and its job for
each of so many people. ``inbox`` is from before that call until every inbox was read back and holds
its message. ``mail`` is the worker handing the mails to a server on loopback that keeps nothing,
each in a conversation of its own; its memory is what this process gained meanwhile.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import logging
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil
import structlog
from aiosmtpd.smtp import SMTP

from homeroom.clock import Clock
from homeroom.db import migrate
from homeroom.db.sqlite import SqliteDatabase
from homeroom.jobs.engines.sql import SqlEngine
from homeroom.jobs.handler import Registry
from homeroom.jobs.upkeep import Upkeep
from homeroom.jobs.worker import Worker
from homeroom.notify import store
from homeroom.notify.api import (
    EXAMPLES,
    Channel,
    Message,
    NoCarrier,
    Notifications,
    Sender,
    Server,
    SmtpCarrier,
    Templates,
)
from homeroom.people import api as people
from homeroom.people.api import Person

Numbers = dict[str, float]
LIMIT_SECONDS = 600.0
MIB = 1024 * 1024


class Sink:
    """Takes every mail and keeps none."""

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:  # noqa: N802
        """Say yes."""
        return "250 2.0.0 taken"


async def _people(db: SqliteDatabase, count: int) -> None:
    for start in range(0, count, 1_000):
        async with db.write() as tx:
            for number in range(start, min(start + 1_000, count)):
                name = f"person-{number:06}"
                await people.put(tx, Person(name, f"{name}@example.org", "Ada", "Example", "en"))


def _room(db: SqliteDatabase, port: int) -> Notifications:
    sender = Sender("Homeroom <homeroom@example.org>")
    return Notifications(
        db,
        carriers={
            Channel.EMAIL: SmtpCarrier(Server("127.0.0.1", port, "none"), sender),
            Channel.SMS: NoCarrier("not set up"),
            Channel.CHAT: NoCarrier("not set up"),
        },
        templates=Templates(),
        public_url="https://homeroom.example.org",
    )


async def _read_back(db: SqliteDatabase, count: int) -> None:
    """Read every inbox; raise if one lacks its message."""
    for start in range(0, count, 1_000):
        async with db.read() as tx:
            for number in range(start, min(start + 1_000, count)):
                name = f"person-{number:06}"
                found = await store.inbox(tx, name, unread=True, before_id=None, count=1)
                if len(found) != 1:
                    raise AssertionError(f"{name} has no message")


async def _mail(db: SqliteDatabase, room: Notifications, at_once: int) -> float:
    registry, engine = Registry(), SqlEngine()
    room.register(registry)
    worker = Worker(db, registry, engine, concurrency=at_once)
    upkeep = Upkeep(db, registry, engine)
    tasks = [asyncio.create_task(worker.run()), asyncio.create_task(upkeep.run())]
    begun = time.perf_counter()
    async with asyncio.timeout(LIMIT_SECONDS):
        while True:
            async with db.read() as tx:
                row = await tx.fetch_one(
                    "SELECT 1 FROM delivery WHERE status IN ('pending', 'sending') LIMIT 1"
                )
            if row is None:
                break
            await asyncio.sleep(0.05)
    seconds = time.perf_counter() - begun
    worker.stop()
    upkeep.stop()
    await asyncio.gather(*tasks)
    return seconds


async def _round(file: Path, count: int, mails: bool, at_once: int) -> Numbers:
    db = SqliteDatabase(file, Clock())
    await db.open()
    await _people(db, count)
    loop = asyncio.get_running_loop()
    sink = await loop.create_server(
        lambda: SMTP(Sink(), hostname="sink.test", loop=loop), "127.0.0.1", 0
    )
    room = _room(db, sink.sockets[0].getsockname()[1])
    messages = [
        Message(
            f"log_reminder:lab:2026-W48:person-{number:06}",
            "log_reminder",
            f"person-{number:06}",
            EXAMPLES["log_reminder"],
        )
        for number in range(count)
    ]
    gc.collect()
    process = psutil.Process()
    before = process.memory_info().rss
    begun = time.perf_counter()
    async with db.write() as tx:
        sent = await room.send(tx, messages)
    queued = time.perf_counter() - begun
    if sent.new != count:
        raise AssertionError(f"{sent.new} of {count} messages are new")
    await _read_back(db, count)
    found = {"queue_seconds": queued, "inbox_seconds": time.perf_counter() - begun}
    del messages
    if mails:
        found["mail_seconds"] = await _mail(db, room, at_once)
    gc.collect()
    found["memory_growth_mib"] = (process.memory_info().rss - before) / MIB
    sink.close()
    await sink.wait_closed()
    await db.close()
    return found


def measure(
    count: int = 10_000, rounds: int = 3, mails: bool = True, at_once: int = 8
) -> dict[str, Any]:
    """Return medians over rounds, each on a database of its own."""
    results: list[Numbers] = []
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "homeroom.db"
            migrate.upgrade(file)
            results.append(asyncio.run(_round(file, count, mails, at_once)))
        gc.collect()
    return {
        "messages": count,
        "rounds": rounds,
        "mails_at_once": at_once,
        "medians": {
            "homeroom": {key: statistics.median(one[key] for one in results) for key in results[0]}
        },
    }


def main() -> None:
    """Measure and print JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--at-once", type=int, default=8)
    parser.add_argument("--no-mail", action="store_true")
    given = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    found = measure(given.count, given.rounds, not given.no_mail, given.at_once)
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
