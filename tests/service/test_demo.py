"""The demo as a user runs it, and a check that is worth something: it notices what is off."""

from __future__ import annotations

import asyncio
import io
import json
import os
import re
import signal
import sqlite3
import sys
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest
from rich.console import Console
from tests.support.credential_verifier import verify

from homeroom.clock import Clock
from homeroom.credentials.open_badges.badge_document import OPEN_BADGES_CONTEXT, whole_seconds
from homeroom.credentials.open_badges.proof_hash import read_context
from homeroom.demo import comparison
from homeroom.demo.comparison import ComparisonLine, compare_results
from homeroom.demo.environment import (
    DemoEnvironment,
    DemoOptions,
    DemoSetupFailed,
    open_environment,
    run_supervised,
)
from homeroom.demo.run import Presentation, run_demo
from homeroom.demo.subprocesses import ChildProcessFailed

pytestmark = [pytest.mark.anyio, pytest.mark.service, pytest.mark.xdist_group("demo")]

PATIENCE_SECONDS = 240.0


async def demo(*options: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "homeroom",
        "demo",
        *options,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        # A setting of the developer's must not reach the demo's server.
        env={**os.environ, "HOMEROOM_MAX_BODY_BYTES": "not a number"},
    )


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


async def test_the_demo_plays_a_class_and_every_number_agrees(tmp_path: Path) -> None:
    child = await demo("--exit", "--json", "--learners", "25", "--data-dir", str(tmp_path))
    output, errors = await asyncio.wait_for(child.communicate(), PATIENCE_SECONDS)
    assert child.returncode == 0, errors.decode()
    summary: dict[str, Any] = json.loads(output)
    assert summary["ok"]
    assert [line for line in summary["lines"] if not line["ok"]] == []
    assert summary["learners"] == 25
    assert summary["finishedCourses"] > 10
    assert summary["events"] > 1_000
    assert summary["cutConnections"] > 0
    compared = {line["what"]: line for line in summary["lines"]}
    assert compared["one completion a finished course"]["expected"] == str(
        summary["finishedCourses"]
    )
    assert (tmp_path / "homeroom.db").exists()
    assert "sign-in#" in (tmp_path / "server.log").read_text()


async def test_an_existing_database_is_left_alone(tmp_path: Path) -> None:
    database = tmp_path / "homeroom.db"
    database.write_bytes(b"another process's data")
    with pytest.raises(DemoSetupFailed, match="There is a database"):
        async with open_environment(DemoOptions(tmp_path)):
            pytest.fail("it must not start")
    assert os.listdir(tmp_path) == ["homeroom.db"]
    assert database.read_bytes() == b"another process's data"


async def test_a_number_that_is_off_ends_the_demo_with_1(tmp_path: Path) -> None:
    async def lose_a_second(made: DemoEnvironment) -> None:
        doctor(made, "UPDATE course_progress SET time_spent = time_spent - 1 WHERE rowid_first")

    output = io.StringIO()
    code = await run_demo(
        DemoOptions(tmp_path, learners=6, port=0, seconds=1.0),
        Console(file=output, width=200),
        keep_serving=False,
        presentation=Presentation(),
        before_check=lose_a_second,
    )
    assert code == 1
    assert "OFF" in output.getvalue()


FIRST = (
    "(user_id, course_id) = (SELECT user_id, course_id FROM completion"
    " WHERE course_id = 'data-foundations' ORDER BY id LIMIT 1)"
)

BEST_QUIZ = (
    "(user_id, course_id, chapter_id, attempt_id) = (SELECT user_id, course_id, chapter_id,"
    " attempt_id FROM quiz_attempt WHERE rowid_first"
    " ORDER BY chapter_id, scaled DESC LIMIT 1)"
)


def doctor(made: DemoEnvironment, statement: str) -> None:
    """Change what is stored, behind the server's back; exactly one row."""
    with closing(sqlite3.connect(made.database, timeout=10)) as connection, connection:
        changed = connection.execute(statement.replace("rowid_first", FIRST)).rowcount
    assert changed == 1, statement


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
async def played(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[DemoEnvironment]:
    """Return a small class that was played, and whose numbers agree."""
    folder = tmp_path_factory.mktemp("school")
    async with open_environment(DemoOptions(folder, learners=14, port=0, seconds=2.0)) as made:
        await made.load()
        await made.play()
        assert await made.settle()
        assert [line for line in await checked(made) if not line.ok] == []
        yield made


async def checked(made: DemoEnvironment) -> list[ComparisonLine]:
    assert await made.settle()  # a schedule may have come due since the class was played
    read = await comparison.read_actual(made.api, made.sandbox.url, made.expected)
    return compare_results(made.expected, made.answers, read)


async def test_a_third_partys_verifier_accepts_the_credentials_of_the_demo(
    played: DemoEnvironment, verifier: Path
) -> None:
    async def get(url: str) -> Any:
        answer = await played.api.get(url)
        assert answer.status_code == 200, url
        return answer.json()

    listed = (await get("/api/v1/credentials?limit=100"))["items"]
    signed = [await get(f"{each['url']}.json") for each in listed if each["issuer"] == "homeroom"]
    assert signed
    profile = await get("/issuer/profile")
    addresses = {each["credentialStatus"]["statusListCredential"] for each in signed}
    documents = {url: await get(url) for url in [*profile["assertionMethod"], *addresses]}
    documents |= {
        profile["id"]: profile,
        OPEN_BADGES_CONTEXT: read_context(OPEN_BADGES_CONTEXT),
    }
    now = whole_seconds(Clock().now())
    results = await asyncio.to_thread(verify, verifier, signed, documents, now)
    assert results == [{"verified": True, "revoked": [False], "errors": []}] * len(signed)


@pytest.mark.parametrize(
    ("change", "undo", "noticed"),
    [
        (
            "UPDATE course_progress SET time_spent = time_spent - 1 WHERE rowid_first",
            "UPDATE course_progress SET time_spent = time_spent + 1 WHERE rowid_first",
            "seconds acknowledged, in the list",
        ),
        (
            "UPDATE course_progress SET chapters = json_replace(chapters, '$.w2-lab[1]',"
            " chapters ->> '$.w2-lab[1]' + 1) WHERE rowid_first",
            "UPDATE course_progress SET chapters = json_replace(chapters, '$.w2-lab[1]',"
            " chapters ->> '$.w2-lab[1]' - 1) WHERE rowid_first",
            "time spent in a chapter",
        ),
        (
            "UPDATE course_progress SET satisfied = satisfied - 1 WHERE rowid_first",
            "UPDATE course_progress SET satisfied = satisfied + 1 WHERE rowid_first",
            "chapters done",
        ),
        (
            "UPDATE course_progress SET weighted_sum = weighted_sum - 100000000 WHERE rowid_first",
            "UPDATE course_progress SET weighted_sum = weighted_sum + 100000000 WHERE rowid_first",
            "progress, in the list",
        ),
        (
            "UPDATE enrolment SET status = 'in_progress' WHERE rowid_first",
            "UPDATE enrolment SET status = 'completed' WHERE rowid_first",
            "status of every attempt",
        ),
        (
            "UPDATE completion SET completed_at = completed_at + 1000 WHERE rowid_first",
            "UPDATE completion SET completed_at = completed_at - 1000 WHERE rowid_first",
            "date of every completion",
        ),
        (
            "UPDATE completion SET user_id = 'x' || user_id WHERE rowid_first",
            "UPDATE completion SET user_id = substr(user_id, 2) WHERE user_id LIKE 'x%'",
            "one completion a finished course",
        ),
        (
            "UPDATE completion_step SET status = 'skipped' WHERE name = 'hr' AND completion_id ="
            " (SELECT id FROM completion WHERE rowid_first)",
            "UPDATE completion_step SET status = 'completed' WHERE status = 'skipped'",
            "steps done: hr",
        ),
        (
            "UPDATE dispatch SET status = 'waiting' WHERE destination = 'analytics' AND"
            " completion_id = (SELECT id FROM completion WHERE rowid_first)",
            "UPDATE dispatch SET status = 'delivered' WHERE status = 'waiting'",
            "analytics: dispatches delivered",
        ),
        (
            f"UPDATE quiz_attempt SET scaled = scaled - 1 WHERE {BEST_QUIZ}",
            f"UPDATE quiz_attempt SET scaled = scaled + 1 WHERE {BEST_QUIZ}",
            "best score of every quiz",
        ),
    ],
    ids=lambda value: value if not value.startswith("UPDATE") else "",
)
async def test_the_check_notices_what_was_doctored(
    played: DemoEnvironment, change: str, undo: str, noticed: str
) -> None:
    doctor(played, change)
    try:
        off = {line.what for line in await checked(played) if not line.ok}
    finally:
        doctor(played, undo)
    assert noticed in off
    assert [line for line in await checked(played) if not line.ok] == []


async def test_a_server_that_dies_ends_the_demo_with_its_last_lines(tmp_path: Path) -> None:
    async with open_environment(DemoOptions(tmp_path, learners=2, port=0)) as made:
        pid = made.server.pid
        assert pid is not None

        async def play() -> None:
            os.kill(pid, signal.SIGKILL)
            await made.play()

        with pytest.raises(
            ChildProcessFailed, match=r"The server ended with -9(.|\n)*Homeroom serves on"
        ):
            await run_supervised(made, play)
        sandbox = made.sandbox.pid
    assert sandbox is not None
    assert not is_running(sandbox)


async def test_it_ends_with_links_that_open_and_with_ctrl_c_and_its_children(
    tmp_path: Path,
) -> None:
    child = await demo("--plain", "--learners", "14", "--port", "0", "--data-dir", str(tmp_path))
    assert child.stdout is not None
    said = ""
    while "programmes compliance" not in said:
        line = await asyncio.wait_for(child.stdout.readline(), PATIENCE_SECONDS)
        assert line, said
        said += line.decode()
    assert "all agree" in said
    assert "Watch the class in the console: http" in said
    table = [line for line in said.splitlines() if line.startswith("│ ok")]
    assert 5 < len(table) <= 10, "a line for each kind of numbers"
    links = dict(re.findall(r"^  ([^:\n]+): +(http\S+)$", said, re.MULTILINE))
    for role in ("operator", "manager", "facilitator"):
        await session_is_opened(links[f"console, as {role}"], role)
    async with httpx.AsyncClient() as browser:
        for title, found in (
            ("a learner's credential", "Criteria"),
            ("the mailbox", "Mails that the sandbox took"),
            ("a lesson plan", "location.hash"),
        ):
            page = await browser.get(links[title])
            assert page.status_code == 200, title
            assert found in page.text, title
    child.send_signal(signal.SIGINT)
    output, errors = await asyncio.wait_for(child.communicate(), PATIENCE_SECONDS)
    assert child.returncode == 0, (said, output, errors)
    assert "Stopped." in output.decode()


async def session_is_opened(link: str, role: str) -> None:
    """Sign in by the link as the page's script does; what the page reads must answer."""
    address, _, token = link.partition("#")
    url = httpx.URL(address)
    async with httpx.AsyncClient(base_url=url.copy_with(raw_path=b"/")) as browser:
        opened = await browser.post(
            "/api/v1/session", json={"token": token}, headers={"origin": str(url.join("/"))[:-1]}
        )
        assert opened.status_code == 201, opened.text
        assert opened.json()["roles"] == [role]
        assert (await browser.get(url.params["next"])).status_code == 200
        if role == "facilitator":
            owed = (await browser.get("/api/v1/log-obligations")).json()["items"]
            assert [each["state"] for each in owed] == ["open"]
