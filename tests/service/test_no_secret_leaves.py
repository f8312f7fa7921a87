"""No shape of secret passes an exit: logs, jobs, Redis, partners, mail, problems."""

from __future__ import annotations

import asyncio
import io
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import httpx
import pytest
import structlog
from starlette.types import Receive, Scope, Send
from tests.support.database import url_of
from tests.support.secret_shapes import JSON_SHAPES, PASSWORD, SHAPES
from typer.testing import CliRunner

from homeroom.access import store as access_store
from homeroom.cli import app as command_line
from homeroom.db.sqlite.database import SqliteDatabase
from homeroom.errors import Conflict, NotFound
from homeroom.http.app import create_app
from homeroom.http.logging_config import configure_logging
from homeroom.identity import Identity, Role
from homeroom.jobs import routes as job_routes
from homeroom.jobs import store as job_store
from homeroom.jobs.api import Done, JobArgs, JobContext, Outcome, Registry
from homeroom.jobs.engine import SqlEngine
from homeroom.jobs.engines.bullmq_fetcher import BullmqFetcher
from homeroom.jobs.engines.payload import encode_job
from homeroom.jobs.enqueue import enqueue
from homeroom.jobs.job import FINISHED
from homeroom.jobs.worker import Worker
from homeroom.notify.smtp_response import redact_response
from homeroom.partner.client import Partner
from homeroom.partner.failure import PartnerError
from homeroom.web.identity import Auth
from homeroom.web.problem import problem_response

pytestmark = pytest.mark.anyio
TEXTS = {name: text for name, (text, _) in SHAPES.items()}


class Leak(JobArgs, frozen=True, kw_only=True):
    """A job whose payload, log, result and error hold every shape of secret."""

    kind: ClassVar[str] = "leaks.all"
    queue: ClassVar[str] = "leaks"
    max_retries: ClassVar[int] = 0
    texts: dict[str, str]
    values: dict[str, Any]
    fails: bool


def leaks(shown: str) -> list[str]:
    """Return the names of the shapes whose secrets can be read in what was shown."""
    return [name for name, (_, secret) in SHAPES.items() if secret in shown] + (
        ["by name"] if PASSWORD in shown else []
    )


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    root = logging.getLogger()
    handlers, level = root.handlers, root.level
    yield io.StringIO()
    structlog.reset_defaults()
    root.handlers = handlers
    root.setLevel(level)


async def test_nothing_leaves_by_the_log(stream: io.StringIO) -> None:
    configure_logging("info", "json", stream)
    log = structlog.get_logger("leaks")
    for name, text in TEXTS.items():
        log.info(text, shape=name, value=text, nested={"a": [text]}, raw=text.encode())
        logging.getLogger("library").warning("failed: %s", text)
        try:
            raise ValueError(text)
        except ValueError:
            log.exception("leak_failed", shape=name)
    for value in JSON_SHAPES.values():
        log.info("leak_shown", value=value)
    assert "leak_failed" in stream.getvalue()
    assert leaks(stream.getvalue()) == []


async def test_nothing_leaves_by_the_console_log(stream: io.StringIO) -> None:
    configure_logging("info", "console", stream)
    for text in TEXTS.values():
        structlog.get_logger("leaks").warning(text, value=text)
    assert leaks(stream.getvalue()) == []


async def test_nothing_leaves_by_jobs(
    sqlite: SqliteDatabase, database_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry = Registry()

    async def run(context: JobContext, args: Leak) -> Outcome:
        for text in args.texts.values():
            await context.log(text)
        await context.progress(args.values)
        if args.fails:
            raise ConnectionError("\n".join(args.texts.values()))
        return Done({"texts": args.texts, "values": args.values})

    registry.add(Leak, run)
    values = dict(JSON_SHAPES)
    async with sqlite.write() as tx:
        for fails in (True, False):
            await enqueue(tx, Leak(texts=TEXTS, values=values, fails=fails), id=f"leak-{fails}")
    ids = ["leak-True", "leak-False"]
    await work(sqlite, registry, ids)

    async def identify(header: str | None, cookie: str | None) -> Identity:
        return Identity("vera", frozenset({Role.VIEWER}), "key")

    router = job_routes.router(sqlite, Auth(identify), registry, access_store.record_audit)
    transport = httpx.ASGITransport(
        create_app([router], ingest=no_ingest, max_body_bytes=1_000_000)
    )
    async with httpx.AsyncClient(transport=transport, base_url="http://homeroom") as client:
        shown = [(await client.get(f"/api/v1/jobs/{id}")).text for id in ids]
        shown.append((await client.get("/api/v1/jobs?queue=leaks")).text)
    assert "Traceback" in shown[0]
    assert all('"texts"' in each for each in shown[:2])
    assert [leaks(each) for each in shown] == [[], [], []]

    async with sqlite.read() as tx:
        jobs = await job_store.find(tx, ids)
    for job in jobs.values():
        assert leaks(json.dumps(encode_job(job))) == []

    monkeypatch.setenv("HOMEROOM_DATABASE_URL", url_of(database_file))
    monkeypatch.setenv("HOMEROOM_DATA_DIR", str(database_file.parent))
    for words in (
        ["list"],
        ["list", "--json"],
        *(["show", id, "--json"] for id in ids),
        ["show", ids[0]],
    ):
        result = await asyncio.to_thread(CliRunner().invoke, command_line, ["jobs", *words])
        assert result.exit_code == 0, result.output
        assert "leak" in result.output
        assert leaks(result.output) == []


async def test_nothing_leaves_to_redis() -> None:
    sent: list[Any] = []

    async def keep(*arguments: Any, **options: Any) -> None:
        sent.append([repr(each) for each in arguments[1:]])

    backend = SimpleNamespace(moveToCompleted=keep, moveToFailed=keep)
    job: Any = SimpleNamespace(backend=backend, token="lock")  # BullMQ's lock, not a secret
    fetcher: Any = SimpleNamespace(_keep_failed=1)
    for text in TEXTS.values():
        await BullmqFetcher._report_failed(fetcher, job, text)
        await BullmqFetcher._report_completed(fetcher, job, {"note": text}, {})
    for value in JSON_SHAPES.values():
        await BullmqFetcher._report_completed(fetcher, job, value, {})
    assert len(sent) == 2 * len(TEXTS) + len(JSON_SHAPES)
    assert leaks(json.dumps(sent)) == []


async def test_nothing_leaves_by_partner_errors() -> None:
    key = "an unusual/key"

    def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(422, text=texts.pop())

    texts = [*TEXTS.values(), *(json.dumps(value) for value in JSON_SHAPES.values()), key]
    async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as client:
        partner = Partner(client, "HR", "https://hr.example", authorization=f"Bearer {key}")
        while texts:
            with pytest.raises(PartnerError) as caught:
                await partner.call("GET")
            assert leaks(str(caught.value)) == []
            assert key not in str(caught.value)


async def test_nothing_leaves_by_smtp_replies() -> None:
    for text in TEXTS.values():
        assert leaks(redact_response(f"5.7.1 rejected\r\n{text}")) == []


async def test_nothing_leaves_by_problem_documents() -> None:
    addresses = {name for name in SHAPES if "e-mail" in name}  # shown to their owner
    for name, text in TEXTS.items():
        for error in (
            NotFound(f"There is no {text}"),
            Conflict(hint=text, details={"note": [text]}),
        ):
            body = bytes((await problem_response(error)).body).decode()
            assert set(leaks(body)) <= addresses, name
    for value in JSON_SHAPES.values():
        assert (
            leaks(bytes((await problem_response(Conflict(details={"v": value}))).body).decode())
            == []
        )


async def work(db: SqliteDatabase, registry: Registry, ids: list[str]) -> None:
    """Run jobs until all have finished."""
    worker = Worker(db, registry, SqlEngine())
    running = asyncio.create_task(worker.run())
    changed = asyncio.Event()
    unsubscribe = db.subscribe(lambda topics: changed.set())
    try:
        async with asyncio.timeout(20):
            while True:
                changed.clear()
                async with db.read() as tx:
                    states = await job_store.states(tx, ids)
                if all(state in FINISHED for state in states.values()):
                    return
                await changed.wait()
    finally:
        unsubscribe()
        worker.stop()
        await running


async def no_ingest(scope: Scope, receive: Receive, send: Send) -> None:
    raise AssertionError("nothing is ingested here")
