"""A place in which a test causes a fault and runs the commands of a page."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import ExitStack, closing, suppress
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from socketserver import StreamRequestHandler, ThreadingTCPServer
from typing import Any

from tests.support.condition import until_async
from tests.support.homeroom_process import ADMIN_KEY, clean_environment, homeroom_command
from tests.support.missing_server import skip_or_fail
from tools.servers.debian import Missing

from homeroom.bootstrap.application import Application, open_application
from homeroom.demo.school_seed import SeedOptions, seed_school
from homeroom.jobs.engine import SqlEngine
from homeroom.jobs.worker import Worker
from homeroom.settings import load

COMMAND_SECONDS = 60
DISK_MIB = 16
PORT, DATA = "8420", "/var/lib/homeroom"
"""The port and the data folder that pages show."""
JWT_SECRET = "a-secret-of-the-troubleshooting-page-" + "0" * 16
_URL_LINE = "Homeroom serves on "
_CURL = 'curl() { command curl -sS -H "Content-Type: application/json" "$@"; echo; }\n'


class Stage:
    """A data folder with its settings, and all that a fault needs."""

    def __init__(
        self, folder: Path, migrated_file: Path, stack: ExitStack, postgres_url: str
    ) -> None:
        """Start with an empty database; ``stack`` ends what the stage starts."""
        self.postgres_url = postgres_url
        self.after: list[Callable[[], None]] = []
        """Called once the commands of an entry have run."""
        self.folder, self.stack, self.migrated_file = folder, stack, migrated_file
        self.data = folder / "data"
        self.port = PORT
        self.environment: dict[str, str] = {}
        self.renew()

    @property
    def database(self) -> Path:
        """Return the database file."""
        return self.data / "homeroom.db"

    def renew(self, **settings: str) -> None:
        """Begin again with an empty database and these settings alone."""
        shutil.rmtree(self.data, ignore_errors=True)
        self.data.mkdir()
        shutil.copy(self.migrated_file, self.database)
        self.database.chmod(0o600)
        self.environment = settings

    def execute(self, sql: str) -> None:
        """Change the database as another program might."""
        with closing(sqlite3.connect(self.database)) as connection:
            connection.execute(sql)
            connection.commit()

    def small_disk(self) -> Path:
        """Put the data folder on a disk of 16 MiB; skip where no disk can be mounted."""
        disk = self.folder / "disk"
        disk.mkdir()
        mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_MIB}m", "tmpfs", str(disk)]
        if subprocess.run(mount, check=False, capture_output=True).returncode:
            skip_or_fail(Missing("no disk can be mounted here"))
        self.stack.callback(subprocess.run, ["umount", "--lazy", str(disk)], check=True)
        self.data = disk / "data"
        self.renew()
        return disk

    def leave_disk(self) -> None:
        """Go back to the data folder of the other entries."""
        self.data = self.folder / "data"

    def fill(self, disk: Path) -> None:
        """Fill a disk to its last byte."""
        with (disk / "ballast").open("wb", buffering=0) as file, suppress(OSError):
            while True:
                file.write(b"x" * 65_536)

    def lock(self) -> ExitStack:
        """Hold the write lock of the database file until the result is closed."""
        holding = self.stack.enter_context(ExitStack())
        connection = holding.enter_context(closing(sqlite3.connect(self.database)))
        connection.execute("BEGIN IMMEDIATE")
        return holding

    def hide_package(self, name: str) -> None:
        """Make Python behave as if a package were not installed."""
        self._customize(f"import sys\nsys.modules[{name!r}] = None\n")

    def shift_clock(self, seconds: int) -> None:
        """Move the clock of the commands that follow."""
        self._customize(
            f"import time\n_now = time.time_ns\ntime.time_ns = lambda: _now() + {seconds} * 10**9\n"
        )

    def _customize(self, text: str) -> None:
        folder = self.folder / "site"
        folder.mkdir(exist_ok=True)
        (folder / "sitecustomize.py").write_text(text, encoding="utf-8")
        self.environment["PYTHONPATH"] = str(folder)

    def variables(self) -> dict[str, str]:
        """Return the environment of the commands."""
        return clean_environment(
            **{
                "HOMEROOM_DATA_DIR": str(self.data),
                "HOMEROOM_PORT": "0",
                "HOMEROOM_ADMIN_KEY": ADMIN_KEY,
                "HOMEROOM_JWT_SECRET": JWT_SECRET,
                "KEY": ADMIN_KEY,
                "COLUMNS": "200",
                "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
                **self.environment,
            }
        )

    def run(self, commands: str) -> str:
        """Run commands as a reader would; return all output, as a page shows it."""
        text = commands.replace(f":{PORT}", f":{self.port}")
        ended = subprocess.run(
            ["bash", "--noprofile", "--norc", "-c", _CURL + text],
            cwd=self.folder,
            env=self.variables(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=COMMAND_SECONDS,
            check=False,
        )
        shown = ended.stdout.replace(str(self.data), DATA)
        return re.sub(rf"(:|port ){self.port}\b", rf"\g<1>{PORT}", shown)

    def serve(self, *options: str) -> None:
        """Start a server and wait until it answers."""
        log = self.stack.enter_context((self.folder / "serve.log").open("w", encoding="utf-8"))
        process = subprocess.Popen(
            homeroom_command("serve", *options),
            env={**self.variables(), "HOMEROOM_LOG_LEVEL": "error"},
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
        self.stack.callback(_end, process)
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith(_URL_LINE):
                self.port = line.split()[3].rpartition(":")[2]
                return
        raise AssertionError((self.folder / "serve.log").read_text(encoding="utf-8"))

    def with_application(
        self, work: Callable[[Application], Awaitable[None]], **settings: Any
    ) -> None:
        """Run a function on the application, in this process."""

        async def run() -> None:
            given = load(data_dir=self.data, jwt_secret=JWT_SECRET, **settings)
            async with open_application(given) as application:
                await work(application)

        in_thread(run())

    def seed(self, learners: int = 3, **settings: Any) -> None:
        """Begin again with a small school; one without settings is made once."""
        self.renew()
        made = self.folder.parent / f"school-{learners}.db"
        if made.exists() and not settings:
            shutil.copy(made, self.database)
            return

        async def work(application: Application) -> None:
            await seed_school(application, SeedOptions(learners))

        self.with_application(work, **settings)
        if not settings:
            with closing(sqlite3.connect(self.database)) as connection:
                connection.execute("VACUUM INTO ?", (str(made),))


def _end(process: subprocess.Popen[str]) -> None:
    process.terminate()
    process.communicate()


def in_thread(work: Coroutine[Any, Any, None]) -> None:
    """Run a coroutine on a loop of its own; a test may have one already."""
    failed: list[BaseException] = []

    def run() -> None:
        try:
            asyncio.run(work)
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if failed:
        raise failed[0]


async def run_jobs(application: Application) -> None:
    """Run all jobs that are due, until each has ended or waits for later."""
    worker = Worker(
        application.db,
        application.registry,
        SqlEngine(),
        concurrency=2,
        poll=timedelta(seconds=0.05),
    )
    working = asyncio.create_task(worker.run())
    writing = asyncio.create_task(application.ingest.run())  # a replay of events needs it

    async def is_idle() -> bool:
        async with application.db.read() as tx:
            rows = await tx.fetch("SELECT COUNT(*) FROM job WHERE state IN ('waiting', 'active')")
        return bool(rows[0][0] == 0)

    await until_async(is_idle)
    worker.stop()
    application.ingest.close()
    await asyncio.gather(working, writing)


def answering_server(stack: ExitStack, status: int) -> str:
    """Start a partner that answers every request with a status; return its URL."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            length = int(self.headers.get("content-length", 0))
            self.rfile.read(length)
            self.send_response(status)
            self.send_header("content-length", "0")
            self.end_headers()

        do_HEAD = do_POST = do_GET  # noqa: N815 - the names that http.server calls

        def log_message(self, *args: Any) -> None:
            del args

    return f"http://127.0.0.1:{_start(stack, ThreadingHTTPServer(('127.0.0.1', 0), Handler))}"


def refusing_mail_server(stack: ExitStack, answer: str) -> str:
    """Start a mail server that answers MAIL FROM with ``answer``; return its URL."""

    class Handler(StreamRequestHandler):
        def handle(self) -> None:
            self.wfile.write(b"220 mail.example ESMTP\r\n")
            for line in self.rfile:
                word = line[:4].upper()
                if word == b"MAIL":
                    self.wfile.write(f"{answer}\r\n".encode())
                elif word == b"QUIT":
                    self.wfile.write(b"221 2.0.0 bye\r\n")
                    return
                else:
                    self.wfile.write(b"250 2.0.0 ok\r\n")

    port = _start(stack, ThreadingTCPServer(("127.0.0.1", 0), Handler))
    return f"smtp://127.0.0.1:{port}?tls=none"


def _start(stack: ExitStack, server: ThreadingTCPServer | ThreadingHTTPServer) -> int:
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    stack.callback(thread.join)
    stack.callback(server.server_close)
    stack.callback(server.shutdown)
    return int(server.server_address[1])
