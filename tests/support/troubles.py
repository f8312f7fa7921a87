"""The causes of the entries of ``docs/troubleshooting.md``, by their headings."""

from __future__ import annotations

import json
import socket
import subprocess
from collections.abc import Callable, Mapping
from datetime import timedelta
from functools import partial
from pathlib import Path

import httpx
from tests.support.homeroom_process import ADMIN
from tests.support.redis_server import running_redis
from tests.support.trouble_stage import Stage, answering_server, refusing_mail_server, run_jobs

from homeroom.bootstrap.application import Application
from homeroom.bootstrap.services import start_worker_services
from homeroom.instant import to_datetime
from homeroom.jobs.engine import SqlEngine
from homeroom.jobs.maintenance import JobMaintenance
from homeroom.notify import preference_store, suppression
from homeroom.notify.api import EXAMPLE_PARAMS, Channel, Message
from homeroom.notify.preference_store import ChannelPreference, NotificationProfile

Cause = Callable[[Stage], None]
WEBHOOK_SECRET = "whsec_" + "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="
MAIL_FROM = "Homeroom <homeroom@example.org>"
EVENT = {
    "id": "019ab6a0-7c1e-7d52-8b07-3a1d5f0c9e11", "userId": "ada", "courseId": "fire-safety",
    "chapterId": "exits", "eventType": "chapter_complete", "timeSpent": 300,
    "timestamp": "2026-11-22T09:00:00Z",
}  # fmt: skip
COURSE = {
    "title": "Fire safety",
    "units": [
        {
            "id": "basics",
            "title": "Basics",
            "chapters": [
                {"id": "exits", "title": "Where the exits are", "weight": 4},
                {"id": "alarm", "title": "When the alarm sounds"},
            ],
        }
    ],
}
INGEST = "/api/progress/enhanced-update"


def _nothing(stage: Stage) -> None:
    """The stage of the section is enough."""


def _port_in_use(stage: Stage) -> None:
    listener = stage.stack.enter_context(socket.socket())
    listener.bind(("127.0.0.1", 0))
    listener.listen()
    stage.port = str(listener.getsockname()[1])
    stage.environment["HOMEROOM_PORT"] = stage.port


def _no_database(stage: Stage) -> None:
    stage.renew()
    stage.database.unlink()


def _earlier_schema(stage: Stage) -> None:
    stage.renew()
    stage.execute("UPDATE alembic_version SET version_num = '0065_plan_schedule'")


def _later_schema(stage: Stage) -> None:
    stage.renew()
    stage.execute("UPDATE alembic_version SET version_num = '9999_later'")


def _package_missing(stage: Stage) -> None:
    stage.renew(HOMEROOM_DATABASE_URL="postgresql://homeroom@127.0.0.1/homeroom")
    stage.hide_package("asyncpg")


def _wrong_setting(stage: Stage) -> None:
    stage.renew(HOMEROOM_CONCURRENCY="many")


def _misspelt_setting(stage: Stage) -> None:
    stage.renew(HOMEROOM_PULBIC_URL="https://homeroom.example.org")


def _players(stage: Stage) -> None:
    """A server without a worker that publishes a course, and learners' tokens."""
    stage.renew(HOMEROOM_INGEST_MAX_QUEUE="2", HOMEROOM_INGEST_MAX_RETRIES="0")
    stage.serve("--no-worker")
    with _api(stage) as api:
        api.put("/api/v1/courses/fire-safety", json=COURSE).raise_for_status()
    (stage.folder / "events.json").write_text(json.dumps({"events": [EVENT]}), encoding="utf-8")
    large = json.dumps({"events": [EVENT], "padding": " " * 2**20})
    (stage.folder / "large.json").write_text(large, encoding="utf-8")


def _api(stage: Stage) -> httpx.Client:
    return httpx.Client(base_url=f"http://127.0.0.1:{stage.port}", headers=ADMIN, timeout=30)


def _learner(stage: Stage) -> None:
    stage.environment["TOKEN"] = stage.run("homeroom tokens mint ben 2> /dev/null").strip()


def _busy(stage: Stage) -> None:
    """Two events wait for a database that another program has locked."""
    holding = stage.lock()
    body = json.dumps({"events": [{**EVENT, "id": f"busy-{number}"} for number in (1, 2)]})
    url = f"http://127.0.0.1:{stage.port}{INGEST}"
    command = ["curl", "-s", "-H", f"Authorization: {ADMIN['Authorization']}"]
    command += ["-H", "Content-Type: application/json", url, "-d", body]
    # It waits in the queue; what it is answered in the end is not this test's.
    waiting = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    stage.stack.callback(waiting.wait)
    stage.stack.callback(holding.close)
    with httpx.Client(headers=ADMIN) as client:
        metric, text = "homeroom_ingest_queue_events 2.0", ""
        while metric not in text:
            text = client.get(f"http://127.0.0.1:{stage.port}/metrics").text
    stage.after = [holding.close, partial(_wait, waiting)]


def _wait(process: subprocess.Popen[bytes]) -> None:
    process.wait()


def _locked(stage: Stage) -> None:
    stage.after = [stage.lock().close]


def _four_fifths(stage: Stage) -> None:
    with _api(stage) as api:
        api.post(INGEST, json={"events": [EVENT]}).raise_for_status()


def _unknown_chapter(stage: Stage) -> None:
    with _api(stage) as api:
        event = {**EVENT, "id": "019ab6a0-7c1e-7d52-8b07-3a1d5f0c9e12", "chapterId": "drill"}
        api.post(INGEST, json={"events": [event]}).raise_for_status()


def _paused(stage: Stage) -> None:
    stage.renew()
    stage.serve()
    with _api(stage) as api:
        api.post("/api/v1/queues/credentials/pause").raise_for_status()


def _school(stage: Stage) -> None:
    stage.seed(3)


def _partners(stage: Stage) -> None:
    """Partners that do not answer, or that have ended their subscription."""
    settings = {
        "analytics_url": answering_server(stage.stack, 410),
        "hr_url": "http://127.0.0.1:9/hr",
        "webhook_secret": WEBHOOK_SECRET,
        "credential_allow_http": "true",
    }
    stage.seed(8, **settings)
    stage.with_application(run_jobs, **settings)
    names = ("analytics_url", "hr_url", "webhook_secret")
    stage.environment = {f"HOMEROOM_{name.upper()}": settings[name] for name in names}


def _refusing(stage: Stage) -> None:
    stage.renew(
        HOMEROOM_CREDLY_URL=answering_server(stage.stack, 401),
        HOMEROOM_CREDLY_ORGANIZATION="school",
        HOMEROOM_CREDLY_TOKEN="a-token-that-was-revoked",
    )


def _redis_away(stage: Stage) -> None:
    stage.renew(HOMEROOM_QUEUE_URL="redis://127.0.0.1:9")


def _redis_cluster(stage: Stage) -> None:
    folder = stage.folder / "redis"
    folder.mkdir()
    server = stage.stack.enter_context(running_redis(folder, "--cluster-enabled", "yes"))
    stage.renew(HOMEROOM_QUEUE_URL=server.url)


def _mails(stage: Stage) -> None:
    """A school whose facilitators are reminded by a mail server that refuses the sender."""
    url = refusing_mail_server(stage.stack, "550 5.7.1 this sender is not allowed here")
    settings = {"smtp_url": url, "mail_from": MAIL_FROM}
    stage.seed(3)

    async def remind(application: Application) -> None:
        db = application.db
        async with db.write() as tx:
            await suppression.add_suppression(
                tx, Channel.EMAIL, "ada@school.example", "hard", "550 5.1.1 no such user"
            )
            off = ChannelPreference(
                "ben", "log_reminder", Channel.EMAIL, wanted=False, source="link"
            )
            await preference_store.put_preferences(tx, [off])
            await preference_store.put_profile(tx, NotificationProfile("chen", 0, 24 * 60 - 1))
            params = EXAMPLE_PARAMS["log_reminder"]
            messages = [
                Message(f"reminder {id}", "log_reminder", id, params)
                for id in ("ada", "ben", "chen", "mara")
            ]
            await application.notifications.send(tx, messages)
        await run_jobs(application)

    stage.with_application(remind, **settings)
    stage.environment = {f"HOMEROOM_{name.upper()}": value for name, value in settings.items()}


def _missed_schedule(stage: Stage) -> None:
    """A weekly reminder whose Monday passed while no process ran."""
    stage.seed(3)

    async def go_by(application: Application) -> None:
        await start_worker_services(application, SqlEngine())
        friday = timedelta(days=11 - to_datetime(application.db.clock.now()).weekday())
        application.db.clock.advance(friday)
        await JobMaintenance(application.db, application.registry, SqlEngine()).tick()

    stage.with_application(go_by)


def _disk_full(stage: Stage) -> None:
    disk = stage.small_disk()
    stage.serve("--no-worker")
    stage.fill(disk)
    stage.after = [stage.leave_disk]


def _clock_wrong(stage: Stage) -> None:
    stage.renew(HOMEROOM_DATABASE_URL=stage.postgres_url)
    stage.shift_clock(600)


def _server_away(stage: Stage) -> None:
    stage.renew(HOMEROOM_DATABASE_URL="postgresql://homeroom@127.0.0.1:9/homeroom")


def _restore(stage: Stage) -> None:
    stage.seed(3)
    backup: Path = stage.folder / "homeroom-monday.zip"
    stage.run(f"homeroom db backup {backup}")


SECTIONS: Mapping[str, Cause] = {
    "Homeroom does not start": _nothing,
    "Players are refused": _players,
    "A credential or a message to a partner is missing": _partners,
    "Jobs wait": _nothing,
    "Mails do not arrive": _mails,
    "Disk, clock and database": _nothing,
}
"""What each section of the page begins with."""

CAUSES: Mapping[str, Cause] = {
    "The port is in use": _port_in_use,
    "There is no database": _no_database,
    "The database is of an earlier release": _earlier_schema,
    "The database is of a later release": _later_schema,
    "A package is missing": _package_missing,
    "Exit code 78: a setting is wrong": _wrong_setting,
    "A setting has no effect": _misspelt_setting,
    "401: the token is not accepted": _nothing,
    "403: a learner sends for another one": _learner,
    "413: the body is too large": _nothing,
    "429: too many events wait": _busy,
    "503: the database is locked": _locked,
    "The browser reports a CORS error": _nothing,
    "Progress stays at 80 %": _four_fifths,
    "Events have no effect": _unknown_chapter,
    "A partner does not answer": _nothing,
    "A destination is disabled": _nothing,
    "Who is owed what": _nothing,
    "A partner refuses the key": _refusing,
    "No credential was issued": _school,
    "No worker runs": _school,
    "A queue is paused": _paused,
    "Redis does not answer": _redis_away,
    "Redis is a cluster": _redis_cluster,
    "All mails are held": _nothing,
    "An address is suppressed": _nothing,
    "The recipient has unsubscribed": _nothing,
    "The recipient has quiet hours": _nothing,
    "A scheduled message was missed": _missed_schedule,
    "The disk is full": _disk_full,
    "The clock is wrong": _clock_wrong,
    "The PostgreSQL server is away": _server_away,
    "A backup cannot be restored": _restore,
}
"""What causes each entry of the page, after the beginning of its section."""
