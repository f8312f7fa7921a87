"""The server process: errors at its start, and graceful shutdown."""

from __future__ import annotations

import asyncio
import signal
import socket
import subprocess
import sys
import textwrap
from pathlib import Path

import httpx
import pytest

from homeroom.errors import ConfigurationError
from homeroom.http.server import bind_socket

pytestmark = [pytest.mark.anyio, pytest.mark.service]

PROGRAM = textwrap.dedent(
    """
    import asyncio, sys
    from starlette.responses import PlainTextResponse
    from homeroom.http.logging_config import configure_logging
    from homeroom.http.server import run_loop, serve_app, stop_on_signals
    from homeroom.web.middleware import RequestContextMiddleware

    async def app(scope, receive, send):
        if scope["type"] == "lifespan":
            await receive()
            await send({"type": "lifespan.startup.complete"})
            await receive()
            await send({"type": "lifespan.shutdown.complete"})
            return
        if scope["path"] == "/slow":
            print("slow", flush=True)
            await asyncio.sleep(0.7)
        if scope["path"] == "/never":
            print("never", flush=True)
            await asyncio.Event().wait()
        await PlainTextResponse("done")(scope, receive, send)

    async def main():
        stop = asyncio.Event()
        stop_on_signals(stop)
        started = lambda url: print(url, flush=True)
        wrapped = RequestContextMiddleware(app)
        await serve_app(
            wrapped, "127.0.0.1", 0, stop=stop, on_started=started, grace_seconds=2
        )
        print("cleaned up", type(asyncio.get_running_loop()).__module__, flush=True)

    configure_logging("info", "json")
    run_loop(main())
    """
)


@pytest.fixture
def process(tmp_path: Path) -> subprocess.Popen[str]:
    script = tmp_path / "serving.py"
    script.write_text(PROGRAM)
    return subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, text=True)


async def line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return (await asyncio.to_thread(process.stdout.readline)).strip()


async def finish(process: subprocess.Popen[str]) -> tuple[int, str]:
    out, _ = await asyncio.to_thread(process.communicate, None, 15)
    return process.returncode, out


async def test_a_stop_waits_for_running_requests(process: subprocess.Popen[str]) -> None:
    url = await line(process)
    async with httpx.AsyncClient(base_url=url) as client:
        slow = asyncio.ensure_future(client.get("/slow"))
        assert await line(process) == "slow"
        process.send_signal(signal.SIGTERM)
        assert (await slow).text == "done"
    code, out = await finish(process)
    assert (code, out.strip()) == (0, "cleaned up uvloop")


async def test_a_stop_cancels_requests_after_the_grace_period(
    process: subprocess.Popen[str],
) -> None:
    url = await line(process)
    async with httpx.AsyncClient(base_url=url, timeout=20) as client:
        never = asyncio.ensure_future(client.get("/never"))
        assert await line(process) == "never"
        process.send_signal(signal.SIGTERM)
        code, out = await finish(process)
        assert (code, "cleaned up" in out) == (0, True)
        answer = await never
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
        assert answer.json()["code"] == "unavailable"


async def test_a_second_signal_kills_the_process(process: subprocess.Popen[str]) -> None:
    url = await line(process)
    async with httpx.AsyncClient(base_url=url, timeout=20) as client:
        never = asyncio.ensure_future(client.get("/never"))
        assert await line(process) == "never"
        process.send_signal(signal.SIGTERM)
        # The first signal was handled once new connections are refused.
        host, port = url.removeprefix("http://").split(":")
        await until_closed(host, int(port))
        process.send_signal(signal.SIGTERM)
        code, out = await finish(process)
        assert (code, out) == (-signal.SIGTERM, "")
        with pytest.raises(httpx.HTTPError):
            await never


async def until_closed(host: str, port: int) -> None:
    for _ in range(500):
        try:
            _, writer = await asyncio.open_connection(host, port)
        except OSError:
            return
        writer.close()
        await asyncio.sleep(0.01)
    raise TimeoutError("the server still accepts connections")


def test_an_address_in_use_is_an_error_that_names_it() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ConfigurationError, match=str(port)) as raised:
            bind_socket("127.0.0.1", port)
    assert "HOMEROOM_PORT" in str(raised.value.hint)
    with pytest.raises(ConfigurationError, match="no-such-host"):
        bind_socket("no-such-host.invalid", 0)
