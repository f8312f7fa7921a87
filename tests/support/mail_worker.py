"""A worker that sends mails in its own process: ``mail_worker.py DATABASE PORT``."""

from __future__ import annotations

import asyncio
import signal
import sys
from datetime import timedelta
from pathlib import Path

from homeroom.clock import Clock
from homeroom.db.sqlite.database import SqliteDatabase
from homeroom.jobs.engine import SqlEngine
from homeroom.jobs.handler import Registry
from homeroom.jobs.maintenance import JobMaintenance
from homeroom.jobs.worker import Worker
from homeroom.notify.api import (
    Channel,
    DisabledSender,
    MailIdentity,
    MessageTemplates,
    Notifications,
    SmtpSender,
    SmtpServer,
)

LEASE = timedelta(seconds=1)
CONCURRENCY = 8


def mail_notifications(db: SqliteDatabase, port: int) -> Notifications:
    """Return notifications whose mails go to a server on loopback."""
    sender = MailIdentity("Homeroom <homeroom@example.org>")
    return Notifications(
        db,
        channel_senders={
            Channel.EMAIL: SmtpSender(SmtpServer("127.0.0.1", port, "none"), sender),
            Channel.SMS: DisabledSender("not set up"),
            Channel.CHAT: DisabledSender("not set up"),
        },
        templates=MessageTemplates(),
        public_url="https://homeroom.example.org",
        text_retention=timedelta(days=180),
    )


async def main(database: Path, port: int) -> None:
    db = SqliteDatabase(database, Clock())
    await db.open()
    registry, engine = Registry(), SqlEngine()
    notifications = mail_notifications(db, port)
    notifications.register(registry)
    worker = Worker(db, registry, engine, concurrency=CONCURRENCY, lease=LEASE)
    maintenance = JobMaintenance(db, registry, engine)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, worker.stop)
    running = asyncio.create_task(maintenance.run())
    await worker.run()
    maintenance.stop()
    await running
    await notifications.close()
    await db.close()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2])))
