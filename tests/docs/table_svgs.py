"""Draw the tables of the command line at 80 columns.

``python -m tests.docs.table_svgs docs/tables`` writes a picture of each.
The commands run for real, on a database with an example of each record, and believe that they
write to a terminal of 80 columns.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import os
import re
import sys
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from homeroom.catalogue import api as catalogue
from homeroom.catalogue.api import Catalogue, Enrolment
from homeroom.cli import app
from homeroom.clock import Clock
from homeroom.completion.api import Completions, CompletionStep, NewCompletion
from homeroom.credentials.jobs import IssueCredential
from homeroom.db.sqlite.database import SqliteDatabase
from homeroom.db.tx import Tx
from homeroom.dispatch.jobs import SendAnalytics
from homeroom.jobs import api as jobs
from homeroom.jobs import queue_store
from homeroom.lessonplans.model.call_store import LLM_CALL, ModelCallRow
from homeroom.notify.api import (
    EXAMPLE_PARAMS,
    Channel,
    DisabledSender,
    Message,
    MessageTemplates,
    Notifications,
)
from homeroom.people import api as people
from homeroom.people.api import Person

ROOT = Path(__file__).resolve().parents[2]
COURSES, CURRICULA = ROOT / "examples" / "courses", ROOT / "examples" / "curricula"
WIDTH = 80
LEARNERS = ("u-1041", "u-1042", "u-1043")
COURSE = {
    "title": "Fire safety",
    "units": [{"id": "u", "title": "U", "chapters": [{"id": "a", "title": "A"}]}],
}
PROGRAMME = {
    "id": "data-lab",
    "title": "The data lab",
    "timeZone": "Europe/Berlin",
    "managers": ["mara"],
    "offerings": [
        {
            "id": f"sql-{name}",
            "title": "SQL",
            "facilitatorId": name,
            "startsOn": "2020-01-01",
            "endsOn": "2060-12-31",
        }
        for name in ("ada", "ben")
    ],
}
TABLES = {
    "jobs-list": ("jobs", "list"),
    "jobs-stats": ("jobs", "stats"),
    "jobs-workers": ("jobs", "workers"),
    "completions-list": ("completions", "list", "--outstanding"),
    "programmes-list": ("programmes", "list"),
    "programmes-compliance": ("programmes", "compliance", "data-lab"),
    "schedules-list": ("schedules", "list"),
    "schedules-run": ("schedules", "run", "report.data-lab", "--dry-run"),
    "destinations-list": ("destinations", "list"),
    "keys-list": ("keys", "list"),
    "notify-deliveries": ("notify", "deliveries"),
    "notify-suppressions": ("notify", "suppressions"),
    "notify-unmatched": ("notify", "unmatched"),
    "plans-status": ("plans", "status"),
    "plans-show": ("plans", "show", "last"),
    "plans-calls": ("plans", "calls", "last"),
    "courses-import": ("courses", "import", str(COURSES / "data-foundations.json"), "--dry-run"),
}
"""The commands that print a table, by the name of their picture."""


class _Terminal(io.StringIO):
    """Text that a command takes for a terminal."""

    def isatty(self) -> bool:
        return True


def run_on_terminal(*words: str) -> str:
    """Run a command and return what it writes, with escape codes; raise if it fails."""
    screen = _Terminal()
    with contextlib.redirect_stdout(screen), contextlib.redirect_stderr(screen):
        try:
            app(list(words))
        except SystemExit as ended:
            if ended.code:
                raise RuntimeError(
                    f"{words} ended with {ended.code}: {screen.getvalue()}"
                ) from None
    return screen.getvalue()


@contextlib.contextmanager
def example_school(folder: Path) -> Iterator[None]:
    """Fill a database with an example of each record, and let commands use it."""
    kept = dict(os.environ)
    settings = {
        "HOMEROOM_DATA_DIR": str(folder),
        "HOMEROOM_CREDLY_URL": "http://127.0.0.1:9",
        "HOMEROOM_CREDLY_ORGANIZATION": "school",
        "HOMEROOM_CREDLY_TOKEN": "token-of-the-pictures",
        "COLUMNS": str(WIDTH),
        "TERM": "xterm-256color",
    }
    os.environ.update(settings)
    os.environ.pop("NO_COLOR", None)
    try:
        _fill(folder)
        yield
    finally:
        os.environ.clear()
        os.environ.update(kept)


def _fill(folder: Path) -> None:
    run_on_terminal("db", "upgrade")
    programmes = folder / "programmes.json"
    programmes.write_text(json.dumps([PROGRAMME]))
    run_on_terminal("programmes", "import", str(programmes))
    run_on_terminal("plans", "import", str(min(CURRICULA.glob("*.yaml"))))
    for name, role in (("learning platform", "service"), ("dashboard", "viewer")):
        run_on_terminal("keys", "create", name, "--role", role)
    report = folder / "report.eml"
    report.write_text(
        "Content-Type: multipart/report; report-type=feedback-report; boundary=b\n\n--b\n"
        "Content-Type: message/feedback-report\n\nFeedback-Type: abuse\nVersion: 1\n"
        "User-Agent: x\nOriginal-Rcpt-To: ada@example.org\n\n--b--\n"
    )
    run_on_terminal("notify", "bounce", str(report))
    asyncio.run(_write(folder, _complete_courses))
    asyncio.run(_write(folder, _notify_people))
    asyncio.run(_write(folder, _start_worker))
    asyncio.run(_write(folder, _call_model))


async def _write(folder: Path, work: Callable[[Tx], Awaitable[Any]]) -> None:
    db = SqliteDatabase(folder / "homeroom.db", Clock())
    await db.open()
    try:
        async with db.write() as tx:
            await work(tx)
    finally:
        await db.close()


async def _complete_courses(tx: Tx) -> None:
    """Let three learners complete a course; a step of two of them has failed."""
    completions = Completions(
        [
            CompletionStep("credential", lambda id: IssueCredential(completion_id=id)),
            CompletionStep("analytics", lambda id: SendAnalytics(completion_id=id)),
        ]
    )
    course = (await Catalogue().publish(tx, "fire-safety", COURSE)).course
    await catalogue.add_enrolments(
        tx, [Enrolment(user, course.id, 1, 1, "in_progress", tx.now, 0) for user in LEARNERS]
    )
    new = [NewCompletion(user, course, 1, tx.now, 0, 60, ()) for user in LEARNERS]
    for completion in (await completions.record(tx, new))[:2]:
        await tx.execute(
            "UPDATE job SET state = 'failed', finished_at = ?, attempts = 10, last_error ="
            " 'Credly answered 503', reason_code = 'attempts_exhausted' WHERE id = ?",
            (tx.now, f"{completion.id}.credential"),
        )
        job_id = f"{completion.id}.credential"
        job = (await jobs.find(tx, [job_id]))[job_id]
        update = completions.step_updater("credential")
        await update(tx, job, IssueCredential(completion_id=completion.id))


async def _notify_people(tx: Tx) -> None:
    await people.put(tx, Person("ada", "ada@example.org", "Ada", "Example"))
    off = {channel: DisabledSender("HOMEROOM_SMTP_URL is not set") for channel in Channel}
    notifications = Notifications(
        tx,  # type: ignore[arg-type]  # nothing but this transaction is used
        channel_senders=off,
        templates=MessageTemplates(),
        public_url="https://homeroom.example.org",
        text_retention=timedelta(days=180),
    )
    params = EXAMPLE_PARAMS["log_reminder"]
    await notifications.send(tx, [Message("picture", "log_reminder", "ada", params)])
    await tx.execute(
        "INSERT INTO suppression VALUES ('0199c0de-7a3b-7c11-9f7e-2f60b1a2c3d4', 'email',"
        " 'ben@example.org', 'global', 'hard', '550 5.1.1 no such user', ?, NULL)",
        (tx.now,),
    )


async def _start_worker(tx: Tx) -> None:
    queues = dict.fromkeys(("activity", "credentials", "dispatch", "lessonplans", "upkeep"), 3)
    await queue_store.declare_queues(tx, list(queues))
    await queue_store.pause(tx, "dispatch")
    await queue_store.record_heartbeat(
        tx, "school-server-1.4711.a1b2c3", "school-server-1", 4711, queues, 30_000_000
    )


async def _call_model(tx: Tx) -> None:
    [(plan_id,)] = await tx.fetch("SELECT id FROM lesson_plan")
    call = ModelCallRow(
        id="call-1",
        plan_id=plan_id,
        lesson_id="lesson-1",
        job_id="job-1",
        endpoint="https://models.example/v1",
        model="a-model",
        started_at=tx.now,
        finished_at=tx.now + 4_000_000,
        outcome="answered",
        http_status=200,
        retry_after_ms=None,
        reserved_tokens=4_000,
        input_tokens=1_204,
        output_tokens=873,
        reserved_cost=20_000,
        cost=9_300,
        currency="EUR",
        price_source="settings",
        request_id=None,
    )
    await tx.insert(LLM_CALL, [call])


def draw(name: str, shown: str) -> str:
    """Return the picture of a command with what it wrote."""
    console = Console(record=True, width=WIDTH, file=io.StringIO(), force_terminal=True)
    words = [Path(word).name if "/" in word else word for word in TABLES[name]]
    console.print(f"[bold]$ homeroom {' '.join(words)}[/bold]", highlight=False)
    console.print(Text.from_ansi(shown))
    picture = console.export_svg(title="Homeroom", unique_id=name)
    # The picture loads no fonts: readers without them see their own.
    return re.sub(r"@font-face \{.*?\}\n", "", picture, flags=re.DOTALL)


def main(folder: Path) -> None:
    """Write a picture of each table."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="homeroom-") as school, example_school(Path(school)):
        for name, words in TABLES.items():
            (folder / f"{name}.svg").write_text(draw(name, run_on_terminal(*words)))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
