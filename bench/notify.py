"""Measure messages: handing 10,000 over, having them in 10,000 inboxes, and mailing some.

``queue`` is one call, one transaction: a message, an inbox row, a mail delivery and its job for
each of so many people. ``inbox`` is from before that call until every inbox was read back and holds
its message. ``mails`` is the worker handing mails to a server that shares its process and keeps
nothing, in turns with the sender of earlier releases, which opens a session for each mail. Memory
is what the process gained in each part.
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
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import psutil
import structlog
from aiosmtpd.smtp import SMTP

from bench.references.mail_session import SessionForEachMail
from homeroom.clock import Clock
from homeroom.db import migrate
from homeroom.db.sqlite.database import SqliteDatabase
from homeroom.jobs.engine import SqlEngine
from homeroom.jobs.handler import Registry
from homeroom.jobs.maintenance import JobMaintenance
from homeroom.jobs.worker import Worker
from homeroom.notify import store
from homeroom.notify.api import (
    EXAMPLE_PARAMS,
    Channel,
    DisabledSender,
    MailIdentity,
    Message,
    MessageTemplates,
    Notifications,
    SmtpSender,
    SmtpServer,
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


Sender = type[SmtpSender] | type[SessionForEachMail]
SENDERS: Mapping[str, Sender] = {
    "homeroom": SmtpSender,
    "a session for each mail": SessionForEachMail,
}


def _room(db: SqliteDatabase, port: int, sender: Sender = SmtpSender) -> Notifications:
    identity = MailIdentity("Homeroom <homeroom@example.org>")
    return Notifications(
        db,
        channel_senders={
            Channel.EMAIL: sender(SmtpServer("127.0.0.1", port, "none"), identity),
            Channel.SMS: DisabledSender("not set up"),
            Channel.CHAT: DisabledSender("not set up"),
        },
        templates=MessageTemplates(),
        public_url="https://homeroom.example.org",
        text_retention=timedelta(days=180),
    )


async def _read_back(db: SqliteDatabase, count: int) -> None:
    """Read every inbox; raise if one lacks its message."""
    for start in range(0, count, 1_000):
        async with db.read() as tx:
            for number in range(start, min(start + 1_000, count)):
                name = f"person-{number:06}"
                found = await store.list_inbox(tx, name, unread=True, before_id=None, count=1)
                if len(found) != 1:
                    raise AssertionError(f"{name} has no message")


async def _mail(db: SqliteDatabase, room: Notifications, at_once: int) -> float:
    registry, engine = Registry(), SqlEngine()
    room.register(registry)
    worker = Worker(db, registry, engine, concurrency=at_once)
    upkeep = JobMaintenance(db, registry, engine)
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


async def _round(file: Path, count: int, mails: int, at_once: int) -> dict[str, Numbers]:
    inboxes = await _inboxes(file.with_name("inboxes.db"), count)
    found = {
        name: await _mailboxes(file.with_name(f"mailboxes-{number}.db"), mails, at_once, sender)
        for number, (name, sender) in enumerate(SENDERS.items())
    }
    return {**found, "homeroom": inboxes | found["homeroom"]}


async def _inboxes(file: Path, count: int) -> Numbers:
    """Hand messages over and read every inbox back."""
    migrate.upgrade(file)
    db = SqliteDatabase(file, Clock())
    await db.open()
    await _people(db, count)
    room, messages = _room(db, 1), _messages(count)
    gc.collect()
    before = _resident()
    begun = time.perf_counter()
    async with db.write() as tx:
        sent = await room.send(tx, messages)
    queued = time.perf_counter() - begun
    if sent.new != count:
        raise AssertionError(f"{sent.new} of {count} messages are new")
    await _read_back(db, count)
    read = time.perf_counter() - begun
    gc.collect()
    grown = (_resident() - before) / MIB
    await db.close()
    return {"queue_seconds": queued, "inbox_seconds": read, "inbox_growth_mib": grown}


async def _mailboxes(file: Path, count: int, at_once: int, sender: Sender = SmtpSender) -> Numbers:
    """Let the worker hand mails to a server."""
    migrate.upgrade(file)
    db = SqliteDatabase(file, Clock())
    await db.open()
    await _people(db, count)
    loop = asyncio.get_running_loop()
    sink = await loop.create_server(
        lambda: SMTP(Sink(), hostname="sink.test", loop=loop), "127.0.0.1", 0
    )
    room = _room(db, sink.sockets[0].getsockname()[1], sender)
    async with db.write() as tx:
        await room.send(tx, _messages(count))
    gc.collect()
    before = _resident()
    seconds = await _mail(db, room, at_once)
    gc.collect()
    grown = (_resident() - before) / MIB
    await room.close()
    sink.close()
    await sink.wait_closed()
    await db.close()
    return {"mails_per_second": count / seconds, "mail_growth_mib": grown}


def _messages(count: int) -> list[Message]:
    params = EXAMPLE_PARAMS["log_reminder"]
    return [
        Message(f"log_reminder:lab:2026-W48:{name}", "log_reminder", name, params)
        for name in (f"person-{number:06}" for number in range(count))
    ]


def _resident() -> int:
    return int(psutil.Process().memory_info().rss)


def measure(
    count: int = 10_000, mails: int = 1_000, rounds: int = 3, at_once: int = 8
) -> dict[str, Any]:
    """Return medians over rounds, each on databases of its own."""
    results: list[dict[str, Numbers]] = []
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as folder:
            results.append(asyncio.run(_round(Path(folder) / "x", count, mails, at_once)))
        gc.collect()
    medians = {
        name: {key: statistics.median(one[name][key] for one in results) for key in numbers}
        for name, numbers in results[0].items()
    }

    def over(key: str) -> float:
        ours, theirs = (medians[name][key] for name in SENDERS)
        return ours / theirs

    return {
        "messages": count,
        "mails": mails,
        "rounds": rounds,
        "mails_at_once": at_once,
        "medians": medians,
        "ratios": {
            "homeroom over a session for each mail": over("mails_per_second"),
        },
    }


def main() -> None:
    """Measure and print JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--at-once", type=int, default=8)
    parser.add_argument("--mails", type=int, default=1_000)
    given = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    found = measure(given.count, given.mails, given.rounds, given.at_once)
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
