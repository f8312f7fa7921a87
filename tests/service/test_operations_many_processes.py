"""The supervisor: restarts, graceful shutdown, and no process left behind."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from tests.support.condition import until

from homeroom.http.supervisor import MAX_RESTART_DELAY_SECONDS, restart_backoff_seconds

pytestmark = pytest.mark.service
TIMEOUT_SECONDS = 30.0

PROGRAM = textwrap.dedent(
    """
    import asyncio, errno, os, sys
    from pathlib import Path
    from starlette.responses import PlainTextResponse
    from homeroom.errors import ConfigurationError, HomeroomError
    from homeroom.http.logging_config import configure_logging
    from homeroom.http.supervisor import ProcessSpec, Supervisor
    from homeroom.http.server import bind_socket, run_loop, serve_app, stop_on_signals

    faulty, hangs = sys.argv[1] == "faulty", sys.argv[1] == "hangs"
    if sys.argv[1] == "crowded":
        fork, failures = os.fork, [BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))]

        def fork_later():
            if failures:
                raise failures.pop()
            return fork()

        os.fork = fork_later

    async def app(scope, receive, send):
        if scope["type"] == "lifespan":
            await receive()
            await send({"type": "lifespan.startup.complete"})
            await receive()
            await send({"type": "lifespan.shutdown.complete"})
            return
        if scope["path"] == "/slow":
            await asyncio.sleep(0.7)
        await PlainTextResponse(str(os.getpid()))(scope, receive, send)

    listening = bind_socket("127.0.0.1", 0)

    async def main(send):
        stop = asyncio.Event()
        stop_on_signals(stop, supervised=True)
        if hangs:
            send("hangs")
            await asyncio.Event().wait()
        await serve_app(app, "127.0.0.1", 0, stop=stop, on_started=send, grace_seconds=2,
                        listening=listening)

    def run(send):
        if faulty:
            raise ConfigurationError("The sky is green.", hint="Paint it blue.")
        run_loop(main(send))

    def on_message(name, text):
        print(name, text, flush=True)

    configure_logging("info", "json")
    specs = [ProcessSpec("one", run), ProcessSpec("two", run)]
    supervisor = Supervisor(specs, grace_seconds=2, on_message=on_message,
                            before_stop=listening.close)
    try:
        supervisor.run()
    except HomeroomError as error:
        print(error.message, error.hint, flush=True)
        sys.exit(error.exit_code)
    print("cleaned up", flush=True)
    """
)


class Running:
    """A supervisor of two processes, its output and its log."""

    def __init__(self, folder: Path, mode: str = "normal") -> None:
        script = folder / "supervising.py"
        script.write_text(PROGRAM)
        self.log = folder / "log"
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [sys.executable, script, mode], stdout=subprocess.PIPE, stderr=log, text=True
            )
        self.names: dict[str, int] = {}

    def line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def ready(self) -> str:
        """Wait until both processes serve, and return their URL."""
        urls = dict(self.line().split() for _ in range(2))
        assert urls.keys() == {"one", "two"}
        assert len(set(urls.values())) == 1
        return urls["one"]

    def pids(self) -> dict[str, int]:
        """Return the ids of the processes that were started last, by name."""
        lines = map(json.loads, self.log.read_text().splitlines())
        return {
            line["process"]: line["pid"] for line in lines if line["event"] == "process_started"
        }

    def events(self, name: str) -> list[dict[str, Any]]:
        lines = map(json.loads, self.log.read_text().splitlines())
        return [line for line in lines if line["event"] == name]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Running]]:
    started: list[Running] = []

    def begin(mode: str = "normal") -> Running:
        started.append(Running(tmp_path, mode))
        return started[-1]

    yield begin
    for each in started:
        pids = each.pids().values()
        if each.process.poll() is None:
            each.process.kill()
        each.process.communicate()
        for pid in pids:
            if psutil.pid_exists(pid):
                os.kill(pid, signal.SIGKILL)


def answers(url: str) -> set[int]:
    """Return the processes that answer to twenty new connections."""
    return {int(httpx.get(url, trust_env=False).text) for _ in range(20)}


def is_free(url: str) -> bool:
    """Return whether another program can bind the port."""
    host, port = url.removeprefix("http://").split(":")
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            taken.bind((host, int(port)))
            taken.listen()
        except OSError:
            return False
        return True


def have_ended(pids: dict[str, int]) -> bool:
    return not any(psutil.pid_exists(pid) for pid in pids.values())


def test_all_processes_answer_on_one_port_and_a_stop_ends_them_all(
    start: Callable[..., Running],
) -> None:
    running = start()
    url = running.ready()
    pids = running.pids()
    assert answers(url) <= set(pids.values())
    os.kill(pids["one"], signal.SIGSTOP)
    assert answers(url) == {pids["two"]}
    os.kill(pids["one"], signal.SIGCONT)
    os.kill(pids["two"], signal.SIGSTOP)
    assert answers(url) == {pids["one"]}
    os.kill(pids["two"], signal.SIGCONT)
    running.process.send_signal(signal.SIGTERM)
    out, _ = running.process.communicate(timeout=TIMEOUT_SECONDS)
    assert (running.process.returncode, out) == (0, "cleaned up\n")
    assert have_ended(pids)
    assert is_free(url)


def test_a_stop_waits_for_requests_though_the_group_is_signalled_twice(
    start: Callable[..., Running],
) -> None:
    running = start()
    url = running.ready()
    pids = running.pids()
    host, port = url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=TIMEOUT_SECONDS) as slow:
        slow.sendall(b"GET /slow HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        until(lambda: any(len(psutil.Process(pid).net_connections()) > 1 for pid in pids.values()))
        for pid in pids.values():
            os.kill(pid, signal.SIGINT)  # as Ctrl-C in a terminal does
        running.process.send_signal(signal.SIGINT)
        answer = b"".join(iter(lambda: slow.recv(4_096), b""))
    assert answer.startswith(b"HTTP/1.1 200")
    out, _ = running.process.communicate(timeout=TIMEOUT_SECONDS)
    assert (running.process.returncode, out) == (0, "cleaned up\n")


def test_a_killed_process_is_restarted_while_the_other_one_serves(
    start: Callable[..., Running],
) -> None:
    running = start()
    url = running.ready()
    pids = running.pids()
    os.kill(pids["one"], signal.SIGKILL)
    assert running.line() == f"one {url}"  # sent by the new process
    new = running.pids()
    assert new["two"] == pids["two"]
    assert new["one"] != pids["one"]
    os.kill(new["two"], signal.SIGSTOP)
    assert answers(url) == {new["one"]}
    os.kill(new["two"], signal.SIGCONT)
    [ended] = running.events("process_ended")
    assert (ended["process"], ended["exit_code"]) == ("one", -signal.SIGKILL)


def test_processes_end_when_their_supervisor_is_killed(
    start: Callable[..., Running],
) -> None:
    running = start()
    url = running.ready()
    pids = running.pids()
    running.process.kill()
    running.process.wait(TIMEOUT_SECONDS)
    until(lambda: is_free(url))
    until(lambda: have_ended(pids))


def test_processes_that_do_not_stop_are_killed_by_a_second_signal(
    start: Callable[..., Running],
) -> None:
    running = start("hangs")
    assert {running.line(), running.line()} == {"one hangs", "two hangs"}
    pids = running.pids()
    running.process.send_signal(signal.SIGTERM)
    until(lambda: running.events("shutdown_started"))
    assert not have_ended(pids)
    running.process.send_signal(signal.SIGTERM)
    assert running.process.wait(TIMEOUT_SECONDS) == 1
    assert have_ended(pids)


def test_a_process_with_a_configuration_error_is_not_restarted(
    start: Callable[..., Running],
) -> None:
    running = start("faulty")
    out, _ = running.process.communicate(timeout=TIMEOUT_SECONDS)
    assert (running.process.returncode, out) == (78, "The sky is green. Paint it blue.\n")


def test_the_restart_backoff_grows_to_its_maximum() -> None:
    delays = [restart_backoff_seconds(failures) for failures in range(1, 12)]
    assert delays[:4] == [0.0, 0.5, 1.0, 2.0]
    assert delays == sorted(delays)
    assert delays[-1] == MAX_RESTART_DELAY_SECONDS


def test_a_failed_start_is_retried_while_the_others_serve(
    start: Callable[..., Running],
) -> None:
    running = start("crowded")
    first = dict(running.line().split() for _ in range(1))
    assert first.keys() == {"two"}
    assert dict([running.line().split()]).keys() == {"one"}, "a second later"
    [event] = running.events("process_start_failed")
    assert event["process"] == "one"
    assert "temporarily unavailable" in event["error"]
    running.process.send_signal(signal.SIGTERM)
    assert running.process.wait(TIMEOUT_SECONDS) == 0


def test_two_signals_at_once_count_as_one(start: Callable[..., Running]) -> None:
    running = start()
    url = running.ready()
    with ThreadPoolExecutor(1) as pool:
        slow = pool.submit(httpx.get, f"{url}/slow", trust_env=False)
        time.sleep(0.3)
        running.process.send_signal(signal.SIGTERM)
        time.sleep(0.1)
        running.process.send_signal(signal.SIGTERM)
        assert slow.result(TIMEOUT_SECONDS).status_code == 200
    assert running.process.wait(TIMEOUT_SECONDS) == 0
