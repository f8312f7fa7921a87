"""The sandbox as a process of its own, as the demo and the fault tests start it."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

pytestmark = [pytest.mark.anyio, pytest.mark.service]

PATIENCE_SECONDS = 20.0


@pytest.fixture
async def start() -> AsyncIterator[Any]:
    """Start children; kill what a failing test leaves behind."""
    children: list[asyncio.subprocess.Process] = []

    async def run(*options: str) -> tuple[asyncio.subprocess.Process, dict[str, Any]]:
        child = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "homeroom.sandbox",
            *options,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        children.append(child)
        assert child.stdout is not None
        line = await asyncio.wait_for(child.stdout.readline(), PATIENCE_SECONDS)
        return child, json.loads(line)

    yield run
    for child in children:
        if child.returncode is None:
            child.kill()
        await child.communicate()


async def test_one_line_says_where_everything_is(start: Any) -> None:
    _, line = await start("--organization", "north-school", "--directory-token", "let-me-in")
    settings = line["environment"]
    assert settings["HOMEROOM_CREDLY_ORGANIZATION"] == "north-school"
    async with httpx.AsyncClient(trust_env=False) as client:
        headers = {"authorization": f"Bearer {settings['HOMEROOM_DIRECTORY_TOKEN']}"}
        url = settings["HOMEROOM_DIRECTORY_URL"] + "/users/u1"
        assert (await client.get(url, headers=headers)).status_code == 200


async def test_sigterm_ends_it_within_a_second_though_requests_hang(start: Any) -> None:
    child, line = await start()
    url = line["url"]
    async with httpx.AsyncClient(timeout=PATIENCE_SECONDS, trust_env=False) as client:
        for server, mode in (("directory", "hang_after_work"), ("assessment", "slow")):
            fault = {"server": server, "mode": mode}
            if mode == "slow":
                fault["delayMs"] = 60_000  # type: ignore[assignment]
            await client.post(f"{url}/control/faults", json=fault)
        hanging = [
            asyncio.create_task(client.get(f"{url}/directory/users/u1")),
            asyncio.create_task(client.get(f"{url}/assessment/users/u1/courses/c1/score")),
        ]
        # A sender that never finishes its request must not hold the process up either.
        host, port = url.removeprefix("http://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(b"POST /hr HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
        await writer.drain()
        async with asyncio.timeout(PATIENCE_SECONDS):
            while True:
                listed = (await client.get(f"{url}/control/faults")).json()["items"]
                if all(item["met"] for item in listed):
                    break
        begun = time.monotonic()
        child.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(child.wait(), PATIENCE_SECONDS) == 0
        assert time.monotonic() - begun < 1.0
        outcomes = await asyncio.gather(*hanging, return_exceptions=True)
        assert all(isinstance(outcome, httpx.TransportError) for outcome in outcomes)
        writer.close()
        assert await reader.read() == b""
    assert child.stderr is not None
    assert await child.stderr.read() == b""


async def test_it_ends_with_the_process_that_holds_its_standard_input(start: Any) -> None:
    child, _ = await start("--until-stdin-closes")
    child.stdin.close()
    assert await asyncio.wait_for(child.wait(), PATIENCE_SECONDS) == 0


async def test_a_port_that_is_taken_is_said_so(start: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        child = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "homeroom.sandbox",
            "--port",
            str(taken.getsockname()[1]),
            stderr=asyncio.subprocess.PIPE,
        )
        _, errors = await asyncio.wait_for(child.communicate(), PATIENCE_SECONDS)
    assert child.returncode == 1
    assert b"cannot start" in errors
