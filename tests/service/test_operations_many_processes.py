"""Several processes on one port: what dies comes back, what is stopped ends, nothing is left."""

from __future__ import annotations

import json
import os
import select
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

from homeroom.http.processes import LONGEST_PAUSE_SECONDS, restart_pause

pytestmark = pytest.mark.service
PATIENCE_SECONDS = 30.0

PROGRAM = textwrap.dedent(
    """
    import asyncio, errno, os, sys
    from pathlib import Path
    from starlette.responses import PlainTextResponse
    from homeroom.errors import ConfigurationError, HomeroomError
    from homeroom.http.log import configure
    from homeroom.http.processes import Keeper, Member
    from homeroom.http.server import bind, run_loop, serve, stop_on_signals

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

    listening = bind("127.0.0.1", 0)

    async def main(tell):
        stop = asyncio.Event()
        stop_on_signals(stop, kept=True)
        if hangs:
            tell("hangs")
            await asyncio.Event().wait()
        await serve(app, "127.0.0.1", 0, stop=stop, started=tell, grace_seconds=2,
                    listening=listening)

    def run(tell):
        if faulty:
            raise ConfigurationError("The sky is green.", hint="Paint it blue.")
        run_loop(main(tell))

    def told(name, text):
        print(name, text, flush=True)

    configure("info", "json")
    keeper = Keeper([Member("one", run), Member("two", run)], grace_seconds=2, told=told,
                    stopping=listening.close)
    try:
        keeper.run()
    except HomeroomError as error:
        print(error.message, error.hint, flush=True)
        sys.exit(error.exit_code)
    print("cleaned up", flush=True)
    """
)


class Running:
    """A keeper with two processes, and what it says."""

    def __init__(self, folder: Path, how: str = "well") -> None:
        script = folder / "keeping.py"
        script.write_text(PROGRAM)
        self.log = folder / "log"
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [sys.executable, script, how], stdout=subprocess.PIPE, stderr=log, text=True
            )
        self.names: dict[str, int] = {}

    def line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def ready(self) -> str:
        """Wait until both have told that they serve, and return their URL."""
        told = dict(self.line().split() for _ in range(2))
        assert told.keys() == {"one", "two"}
        assert len(set(told.values())) == 1
        return told["one"]

    def pids(self) -> dict[str, int]:
        """Return the processes by name, as the log last said that they were started."""
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

    def begin(how: str = "well") -> Running:
        started.append(Running(tmp_path, how))
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


def until(true: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not (found := true()):
        assert time.monotonic() < deadline, "it never came true"
        select.select([], [], [], 0.02)
    return found


def answers(url: str) -> set[int]:
    """Return which processes answer, one new connection after the other."""
    return {int(httpx.get(url, trust_env=False).text) for _ in range(20)}


def is_free(url: str) -> bool:
    """Say whether the port can be had by somebody else."""
    host, port = url.removeprefix("http://").split(":")
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            taken.bind((host, int(port)))
            taken.listen()
        except OSError:
            return False
        return True


def gone(pids: dict[str, int]) -> bool:
    return not any(psutil.pid_exists(pid) for pid in pids.values())


def test_all_processes_answer_on_one_port_and_a_stop_ends_them_all(
    start: Callable[..., Running],
) -> None:
    running = start()
    url = running.ready()
    pids = running.pids()
    assert answers(url) <= set(pids.values())
    os.kill(pids["one"], signal.SIGSTOP)  # whoever sleeps, the other one answers
    assert answers(url) == {pids["two"]}
    os.kill(pids["one"], signal.SIGCONT)
    os.kill(pids["two"], signal.SIGSTOP)
    assert answers(url) == {pids["one"]}
    os.kill(pids["two"], signal.SIGCONT)
    running.process.send_signal(signal.SIGTERM)
    out, _ = running.process.communicate(timeout=PATIENCE_SECONDS)
    assert (running.process.returncode, out) == (0, "cleaned up\n")
    assert gone(pids)
    assert is_free(url)


def test_a_stop_lets_running_answers_finish_though_everybody_is_signalled_twice(
    start: Callable[..., Running],
) -> None:
    running = start()
    url = running.ready()
    pids = running.pids()
    host, port = url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=PATIENCE_SECONDS) as slow:
        slow.sendall(b"GET /slow HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        until(lambda: any(len(psutil.Process(pid).net_connections()) > 1 for pid in pids.values()))
        for pid in pids.values():
            os.kill(pid, signal.SIGINT)  # as Ctrl-C in a terminal does
        running.process.send_signal(signal.SIGINT)
        answer = b"".join(iter(lambda: slow.recv(4_096), b""))
    assert answer.startswith(b"HTTP/1.1 200")
    out, _ = running.process.communicate(timeout=PATIENCE_SECONDS)
    assert (running.process.returncode, out) == (0, "cleaned up\n")


def test_a_process_that_is_killed_comes_back_while_the_other_one_answers(
    start: Callable[..., Running],
) -> None:
    running = start()
    url = running.ready()
    pids = running.pids()
    os.kill(pids["one"], signal.SIGKILL)
    assert running.line() == f"one {url}"  # told by the new process
    new = running.pids()
    assert new["two"] == pids["two"]
    assert new["one"] != pids["one"]
    os.kill(new["two"], signal.SIGSTOP)
    assert answers(url) == {new["one"]}
    os.kill(new["two"], signal.SIGCONT)
    [ended] = running.events("process_ended")
    assert (ended["process"], ended["exit_code"]) == ("one", -signal.SIGKILL)


def test_when_the_keeper_is_killed_its_processes_end_and_the_port_is_free(
    start: Callable[..., Running],
) -> None:
    running = start()
    url = running.ready()
    pids = running.pids()
    running.process.kill()
    running.process.wait(PATIENCE_SECONDS)
    until(lambda: is_free(url))
    until(lambda: gone(pids))


def test_processes_that_do_not_stop_are_killed_by_a_second_signal(
    start: Callable[..., Running],
) -> None:
    running = start("hangs")
    assert {running.line(), running.line()} == {"one hangs", "two hangs"}
    pids = running.pids()
    running.process.send_signal(signal.SIGTERM)
    until(lambda: running.events("stopping"))
    assert not gone(pids)
    running.process.send_signal(signal.SIGTERM)
    assert running.process.wait(PATIENCE_SECONDS) == 1
    assert gone(pids)


def test_a_configuration_that_one_refuses_is_not_tried_again(
    start: Callable[..., Running],
) -> None:
    running = start("faulty")
    out, _ = running.process.communicate(timeout=PATIENCE_SECONDS)
    assert (running.process.returncode, out) == (78, "The sky is green. Paint it blue.\n")


def test_pauses_before_a_new_start_grow_to_a_bound() -> None:
    pauses = [restart_pause(failures) for failures in range(1, 12)]
    assert pauses[:4] == [0.0, 0.5, 1.0, 2.0]
    assert pauses == sorted(pauses)
    assert pauses[-1] == LONGEST_PAUSE_SECONDS


def test_a_process_that_cannot_be_started_is_tried_again_and_the_others_go_on(
    start: Callable[..., Running],
) -> None:
    running = start("crowded")
    first = dict(running.line().split() for _ in range(1))
    assert first.keys() == {"two"}
    assert dict([running.line().split()]).keys() == {"one"}, "a second later"
    [event] = running.events("process_not_started")
    assert event["process"] == "one"
    assert "temporarily unavailable" in event["error"]
    running.process.send_signal(signal.SIGTERM)
    assert running.process.wait(PATIENCE_SECONDS) == 0


def test_a_stop_that_is_told_twice_at_once_is_told_once(start: Callable[..., Running]) -> None:
    running = start()
    url = running.ready()
    with ThreadPoolExecutor(1) as pool:
        slow = pool.submit(httpx.get, f"{url}/slow", trust_env=False)
        time.sleep(0.3)
        running.process.send_signal(signal.SIGTERM)
        time.sleep(0.1)
        running.process.send_signal(signal.SIGTERM)
        assert slow.result(PATIENCE_SECONDS).status_code == 200
    assert running.process.wait(PATIENCE_SECONDS) == 0
