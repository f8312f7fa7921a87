"""The staged faults: what each instrument has to say of them, and how they are staged.

``python -m tests.fault.staged_faults`` prints the table of ``docs/operating.md``.
"""

from __future__ import annotations

import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
from tests.support.condition import PATIENCE_SECONDS
from tests.support.homeroom_process import ADMIN
from tests.support.missing_server import skip_or_fail
from tests.support.partner_school import running_sandbox
from tests.support.proxy import Proxy, proxy_to
from tests.support.staged_server import StagedServer
from tools.servers.debian import Missing

PAGE = Path(__file__).resolve().parents[2] / "docs" / "operating.md"
BEGIN, END = "<!-- faults: begin -->", "<!-- faults: end -->"
DISK_MIB = 16
LEASE_SECONDS = 3
"""A short lease, so that a frozen worker is noticed soon."""
DESCRIPTORS = 200
_UNFINISHED_REQUEST = (
    "POST /api/progress/enhanced-update HTTP/1.1\r\nHost: homeroom\r\nContent-Length: 9\r\n"
    f"Authorization: {ADMIN['Authorization']}\r\nContent-Type: application/json\r\n\r\n"
).encode()
"""Its body never comes: the connection is busy."""
_SHIFTED_CLOCK = """
import time
_now = time.time_ns
time.time_ns = lambda: _now() + 600 * 10**9
"""


@dataclass(frozen=True)
class Places:
    """Where a fault is staged: folders, and the ports of servers behind proxies."""

    folder: Path
    logs: Path
    postgres_url: str
    redis_port: int
    stack: AsyncExitStack

    def mount(self, *options: str) -> Path:
        """Mount a small disk for the data folder; skip where that is not allowed."""
        target = self.folder / "disk"
        target.mkdir()
        self.stack.enter_context(_mounted(target, *options))
        return target

    def server(self, folder: Path, **settings: str) -> StagedServer:
        """Return a server of this test; it is ended with the test."""
        server = StagedServer(folder, self.logs, **settings)
        self.stack.push_async_callback(server.close)
        return server

    async def proxy(self, port: int) -> Proxy:
        """Return a proxy to a port of this machine."""
        return await self.stack.enter_async_context(proxy_to(port, Proxy))


Stage = Callable[[Places], Awaitable[StagedServer]]


@dataclass(frozen=True)
class StagedFault:
    """A fault, and what has to be said of it. An empty text stands for nothing."""

    name: str
    readyz: str
    check: str
    log: str
    metrics: str
    fix: str
    stage: Stage
    check_options: tuple[str, ...] = ()


@contextmanager
def _mounted(target: Path, *options: str) -> Iterator[None]:
    done = _run("mount", *options, str(target))
    if done.returncode:
        skip_or_fail(Missing(f"mount {' '.join(options)}: {done.stderr.strip()}"))
    try:
        yield
    finally:
        assert _run("umount", "--lazy", str(target)).returncode == 0


def _run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, check=False)


def fill(disk: Path) -> Path:
    """Fill a disk to its last byte; return the file to delete."""
    ballast = disk / "ballast"
    with ballast.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(b"x" * 65_536)
        except OSError:
            pass
    return ballast


def _tmpfs(places: Places) -> Path:
    return places.mount("-t", "tmpfs", "-o", f"size={DISK_MIB}m", "tmpfs")


async def _disk_full(places: Places) -> StagedServer:
    disk = _tmpfs(places)
    server = places.server(disk / "data")
    await server.serve()
    ballast = fill(disk)
    places.stack.callback(ballast.unlink, missing_ok=True)
    answer = await server.send_events()
    assert (answer.status_code, answer.json()["code"]) == (503, "storage_full")
    assert (await server.client.get("/api/v1/courses")).status_code == 200
    return server


async def _disk_full_at_start(places: Places) -> StagedServer:
    disk = _tmpfs(places)
    server = places.server(disk / "data")
    await server.serve()
    await server.until(lambda: (server.folder / "homeroom.db-reserve").exists())
    await server.stop()
    places.stack.callback(fill(disk).unlink, missing_ok=True)
    await server.serve()
    assert (await server.client.get("/api/v1/courses")).status_code == 200
    return server


async def _read_only(places: Places) -> StagedServer:
    image = places.folder / "image"
    with image.open("wb") as file:
        file.truncate(32 * 1024**2)
    if _run("mkfs.ext4", "-q", str(image)).returncode:
        skip_or_fail(Missing("mkfs.ext4 does not work here"))
    disk = places.mount("-o", "loop", str(image))
    server = places.server(disk / "data")
    await server.serve()
    # As after an error of the disk: files that are open cannot be written any longer.
    _run("mount", "-o", "remount,abort", str(disk))
    answer = await server.send_events()
    assert (answer.status_code, answer.json()["code"]) == (503, "storage_read_only")
    return server


async def _damaged(places: Places) -> StagedServer:
    server = places.server(places.folder / "data")
    await server.serve()
    await server.stop()
    with closing(sqlite3.connect(server.database)) as connection:
        pages = connection.execute(
            "SELECT rootpage FROM sqlite_master WHERE tbl_name = 'worker'"
        ).fetchall()
        [(size,)] = connection.execute("PRAGMA page_size")
    with server.database.open("r+b") as file:
        for (page,) in pages:
            file.seek((page - 1) * size)
            file.write(b"\xff" * size)
    code, _, error = await server.run("serve")
    assert code == 3
    assert "The SQLite database is damaged" in error
    return server


async def _no_descriptors(places: Places) -> StagedServer:
    server = places.server(places.folder / "data")
    await server.serve(descriptors=DESCRIPTORS)
    await server.until_ready("ok")
    address = (server.client.base_url.host, server.client.base_url.port or 0)

    def connect(sent: bytes) -> None:
        for _ in range(DESCRIPTORS):
            opened = socket.create_connection(address, timeout=5)
            opened.sendall(sent)
            places.stack.callback(opened.close)

    async def get_anew() -> httpx.Response:
        """Ask over a new connection, once those of the burst are accepted."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            try:
                async with httpx.AsyncClient(base_url=url, headers=ADMIN, timeout=15) as new:
                    return await new.get("/api/v1/courses")
            except httpx.TransportError:
                assert time.monotonic() < deadline, server.text()

    url = server.client.base_url
    connect(b"")  # these are idle: they are closed in favour of new ones
    assert (await get_anew()).status_code == 200
    connect(_UNFINISHED_REQUEST)
    answer = await get_anew()
    assert (answer.status_code, answer.json()["code"]) == (503, "too_many_open_files")
    assert answer.headers["connection"] == "close"
    # The instruments are asked over new connections.
    await server.client.aclose()
    headers = {**ADMIN, "Connection": "close"}
    server.client = httpx.AsyncClient(base_url=url, headers=headers, timeout=15)
    return server


async def _database_away(places: Places) -> StagedServer:
    server, proxy = await _behind_a_proxy(places)
    proxy.cut()
    await server.until(lambda: "database_fault_began database_unreachable" in server.events())
    return server


async def _database_slow(places: Places) -> StagedServer:
    server, proxy = await _behind_a_proxy(places)
    proxy.freeze()
    await server.until(lambda: "database_fault_began database_slow" in server.events())
    return server


async def _behind_a_proxy(places: Places) -> tuple[StagedServer, Proxy]:
    head, _, tail = places.postgres_url.partition("@")
    address, _, name = tail.partition("/")
    host, _, port = address.rpartition(":")
    proxy = await places.proxy(int(port))
    server = places.server(
        places.folder, HOMEROOM_DATABASE_URL=f"{head}@{host}:{proxy.port}/{name}"
    )
    await server.serve()
    await server.until_ready("ok")
    return server, proxy


async def _redis_away(places: Places) -> StagedServer:
    proxy = await places.proxy(places.redis_port)
    server = places.server(
        places.folder / "data", HOMEROOM_QUEUE_URL=f"redis://127.0.0.1:{proxy.port}"
    )
    await server.serve()
    await server.until_ready("ok")
    proxy.cut()
    await server.until(lambda: "redis_unavailable" in server.events())
    return server


async def _partner_away(places: Places) -> StagedServer:
    return await _beside_a_partner(places, 503, "partner_away")


async def _partner_refuses(places: Places) -> StagedServer:
    return await _beside_a_partner(places, 401, "partner_refused")


async def _beside_a_partner(places: Places, status: int, event: str) -> StagedServer:
    """Return a server of which more learners finish than open the breaker of analytics."""
    sandbox = await places.stack.enter_async_context(running_sandbox())
    await sandbox.fault("analytics", "status", status=status)
    server = places.server(
        places.folder / "data",
        HOMEROOM_ANALYTICS_URL=f"{sandbox.url}/analytics/events",
        HOMEROOM_WEBHOOK_SECRET=sandbox.config.webhook_secret,
        HOMEROOM_ANALYTICS_RETRY_DELAYS=",".join(["1s"] * 9),
    )
    await server.serve()
    await server.complete_course([f"u-{number}" for number in range(6)])
    await server.until(lambda: event in server.events())
    return server


async def _worker_frozen(places: Places) -> StagedServer:
    server = places.server(places.folder / "data", HOMEROOM_JOB_LEASE=f"{LEASE_SECONDS}s")
    await server.serve("--no-worker")
    worker = await server.work()
    await server.until_ready("ok")
    os.kill(worker.pid, signal.SIGSTOP)
    await server.until(lambda: "worker_gone" in server.events())
    return server


async def _clock_off(places: Places) -> StagedServer:
    shifted = places.folder / "shifted"
    shifted.mkdir()
    (shifted / "sitecustomize.py").write_text(_SHIFTED_CLOCK)
    server = places.server(
        places.folder, HOMEROOM_DATABASE_URL=places.postgres_url, PYTHONPATH=str(shifted)
    )
    code, _, error = await server.run("serve")
    assert code == 78
    assert "clocks of this machine and of the database server are 600 s apart" in error
    return server


FAULTS = (
    StagedFault(
        "disk full",
        "degraded: storage",
        "error disk",
        "database_fault_began storage_full",
        'homeroom_database_fault{cause="storage_full"} 1',
        "free some space; nothing else is needed",
        _disk_full,
    ),
    StagedFault(
        "disk full at the start",
        "degraded: storage",
        "error disk",
        "disk_reserve_released",
        'homeroom_health{check="storage"} 0',
        "free some space; the server goes on by itself",
        _disk_full_at_start,
    ),
    StagedFault(
        "disk read-only",
        "degraded: storage",
        "error disk",
        "database_fault_began storage_read_only",
        'homeroom_database_fault{cause="storage_read_only"} 1',
        "check the disk, mount it for writing, start again",
        _read_only,
    ),
    StagedFault(
        "file damaged",
        "",
        "error database",
        "",
        "",
        "stop all processes, `homeroom db restore FILE --force`; `serve` ends with 3 until then",
        _damaged,
    ),
    StagedFault(
        "no descriptors left",
        "degraded: resources",
        "warning descriptors",
        "resource_short descriptors",
        'homeroom_health{check="resources"} 0',
        "raise the limit of open files (`LimitNOFILE=`)",
        _no_descriptors,
    ),
    StagedFault(
        "database away",
        "503: database, destinations, migrations, partners, storage, worker",
        "error database",
        "database_fault_began database_unreachable",
        'homeroom_database_fault{cause="database_unreachable"} 1',
        "start the PostgreSQL server, check the network",
        _database_away,
    ),
    StagedFault(
        "database slow",
        "503: database, destinations, migrations, partners, storage, worker",
        "error database",
        "database_fault_began database_slow",
        'homeroom_database_fault{cause="database_slow"} 1',
        "check the load of the server and its disk, and the network",
        _database_slow,
    ),
    StagedFault(
        "Redis away",
        "degraded: redis",
        "error redis",
        "redis_unavailable",
        'homeroom_health{check="redis"} 0',
        "start Redis; jobs wait as rows meanwhile",
        _redis_away,
        check_options=("--connect",),
    ),
    StagedFault(
        "partner away",
        "degraded: partners",
        "warning partners",
        "partner_away",
        'homeroom_partner_state{partner="analytics",state="away"} 1',
        "nothing: its jobs wait, and go on when it answers; `homeroom destinations list`",
        _partner_away,
    ),
    StagedFault(
        "partner refusing",
        "degraded: partners",
        "warning partners",
        "partner_refused",
        'homeroom_partner_state{partner="analytics",state="refused"} 1',
        "replace the key or the secret, then `homeroom destinations switch-on NAME`",
        _partner_refuses,
    ),
    StagedFault(
        "worker frozen",
        "degraded: worker",
        "error workers, warning workers",
        "worker_gone",
        'homeroom_workers{state="gone"} 1',
        "end the process and start a worker",
        _worker_frozen,
    ),
    StagedFault(
        "clock 10 minutes off",
        "",
        "error database",
        "",
        "",
        "synchronize the clock (chrony, systemd-timesyncd); `serve` ends with 78 until then",
        _clock_off,
    ),
)


def table() -> str:
    """Return the table of the page."""
    lines = [
        "| fault | `/readyz` | `homeroom check` | log | metrics | fix |",
        "|---|---|---|---|---|---|",
    ]
    for fault in FAULTS:
        check = " ".join(["homeroom check", *fault.check_options]) if fault.check_options else ""
        cells = (
            fault.name,
            _code(fault.readyz) or "does not start",
            _code(fault.check) + (f" (`{check}`)" if check else ""),
            _code(fault.log) or "standard error",
            _code(fault.metrics) or "none",
            fault.fix,
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _code(text: str) -> str:
    return f"`{text}`" if text else ""


@asynccontextmanager
async def places_of(folder: Path, postgres_url: str, redis_port: int) -> AsyncIterator[Places]:
    """Yield the places of one test; all that was mounted and started is gone afterwards."""
    logs = folder / "logs"
    logs.mkdir()
    async with AsyncExitStack() as stack:
        yield Places(folder, logs, postgres_url, redis_port, stack)


if __name__ == "__main__":
    page = PAGE.read_text(encoding="utf-8")
    start, end = page.index(BEGIN) + len(BEGIN), page.index(END)
    sys.stdout.write(f"{page[:start]}\n\n{table()}\n\n{page[end:]}")
