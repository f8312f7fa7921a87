"""A supervisor of several server processes: start, restart with backoff, stop.

It opens no database, runs no event loop and serves no requests, so that little can end it. The
processes are forks: they run the code of the supervisor's start, whatever is installed meanwhile,
and share its memory.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from types import FrameType
from typing import NoReturn

import msgspec
import structlog

from homeroom.errors import ConfigurationError, HomeroomError

log = structlog.get_logger(__name__)

BACKOFF_RESET_SECONDS = 60.0
"""Uptime after which the restart backoff is reset."""
MAX_RESTART_DELAY_SECONDS = 30.0
KILL_AFTER_GRACE_SECONDS = 12.0
"""Time after the grace period at which a process that has not stopped is killed."""
SIGNAL_DEDUPLICATION_SECONDS = 1.0
"""Signals within this time count as one: a terminal may signal a process and its group."""
_STOP_SIGNALS = frozenset({signal.SIGTERM, signal.SIGINT})

SendToSupervisor = Callable[[str], None]
"""Send the supervisor a message of one line."""


@dataclass(frozen=True, slots=True)
class ProcessSpec:
    """One process: its name, and the function that it runs until a signal stops it."""

    name: str
    run: Callable[[SendToSupervisor], None]


class _ConfigurationRejected(msgspec.Struct, frozen=True, tag="configuration_error"):
    """The last message of a process that ends for a configuration error."""

    message: str
    hint: str | None


class _ChildMessage(msgspec.Struct, frozen=True, tag="message"):
    """A message of a process through ``SendToSupervisor``."""

    text: str


@dataclass(slots=True)
class _ChildProcess:
    """The state of one process."""

    spec: ProcessSpec
    start_at: float = 0.0
    """The time of its next start, on the monotonic clock."""
    pid: int | None = None
    message_fd: int = -1
    """The reading end of its message pipe; -1 once that is closed."""
    started_at: float = 0.0
    failures: int = 0
    partial_line: bytes = b""


def restart_backoff_seconds(failures: int) -> float:
    """Return the delay before the restart after the n-th failure in a row (pure)."""
    return 0.0 if failures <= 1 else min(MAX_RESTART_DELAY_SECONDS, 0.5 * 2.0 ** (failures - 2))


class Supervisor:
    """Run processes until SIGTERM or SIGINT; they never outlive the supervisor."""

    def __init__(
        self,
        specs: Sequence[ProcessSpec],
        *,
        grace_seconds: float,
        on_message: Callable[[str, str], None],
        before_stop: Callable[[], None],
    ) -> None:
        """Supervise ``specs``; ``on_message`` gets the name of a process and its message.

        ``before_stop`` is called in this process before the processes are stopped.
        """
        self._children = [_ChildProcess(spec) for spec in specs]
        self._grace_seconds = grace_seconds
        self._on_message, self._before_stop = on_message, before_stop
        self._stop_signals = 0
        self._last_signal_at = -SIGNAL_DEDUPLICATION_SECONDS
        self._configuration_error: ConfigurationError | None = None
        self._kill_at: float | None = None
        self._killed = False
        self._selector = selectors.DefaultSelector()
        self._wake_read, self._wake_write = os.pipe()
        # Nothing is ever written here. Only this process has the writing end, so that the children
        # read the end of the pipe when this process ends, even by kill -9.
        self._liveness_read, self._liveness_write = os.pipe()

    def run(self) -> None:
        """Run the processes until a signal, then stop them; a second signal kills them.

        Raises the ``ConfigurationError`` of a process, which a restart would not fix, and
        ``HomeroomError`` if a process had to be killed.
        """
        with self._signals():
            while True:
                if self._stop_signals or self._configuration_error:
                    self._stop()
                    if not any(child.pid for child in self._children):
                        break
                else:
                    self._start_due_children()
                self._wait()
                self._reap_children()
        if self._configuration_error is not None:
            raise self._configuration_error
        if self._killed:
            raise HomeroomError("Some processes did not stop in time and were killed.")

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        """Handle signals, and wake up ``_wait`` for each."""
        os.set_blocking(self._wake_read, False)
        os.set_blocking(self._wake_write, False)
        self._selector.register(self._wake_read, selectors.EVENT_READ)
        handlers = {number: signal.signal(number, self._on_signal) for number in _STOP_SIGNALS}
        handlers[signal.SIGCHLD] = signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(self._wake_write)
        try:
            yield
        finally:
            signal.set_wakeup_fd(-1)
            for number, handler in handlers.items():
                signal.signal(number, handler)
            self._close_pipes()

    def _close_pipes(self) -> None:
        self._selector.close()
        for end in (self._wake_read, self._wake_write, self._liveness_read, self._liveness_write):
            os.close(end)

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        now = time.monotonic()
        if now - self._last_signal_at >= SIGNAL_DEDUPLICATION_SECONDS:
            self._stop_signals += 1
        self._last_signal_at = now

    def _start_due_children(self) -> None:
        now = time.monotonic()
        for child in self._children:
            if child.pid is None and child.start_at <= now:
                self._start(child)

    def _start(self, child: _ChildProcess) -> None:
        read, write = os.pipe()
        # A signal between the fork and the child's own handlers would be lost.
        signal.pthread_sigmask(signal.SIG_BLOCK, _STOP_SIGNALS)
        try:
            sys.stdout.flush()
            sys.stderr.flush()
            try:
                pid = os.fork()
            except OSError as error:  # no memory, or too many processes: the other children run on
                os.close(read)
                os.close(write)
                child.failures += 1
                child.start_at = time.monotonic() + max(
                    restart_backoff_seconds(child.failures), 1.0
                )
                log.error("process_start_failed", process=child.spec.name, error=str(error))
                return
            if pid == 0:
                os.close(read)
                self._run_child(child.spec, write)
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _STOP_SIGNALS)
        os.close(write)
        os.set_blocking(read, False)
        child.pid, child.message_fd, child.partial_line = pid, read, b""
        child.started_at = time.monotonic()
        self._selector.register(read, selectors.EVENT_READ, child)
        log.info("process_started", process=child.spec.name, pid=pid)

    def _run_child(self, spec: ProcessSpec, write: int) -> NoReturn:
        """Run the child process from the fork to its exit."""
        code = 1
        try:
            signal.set_wakeup_fd(-1)
            for number in (*_STOP_SIGNALS, signal.SIGCHLD):
                signal.signal(number, signal.SIG_DFL)
            self._selector.close()
            for other in self._children:
                if other.message_fd != -1:
                    os.close(other.message_fd)
            for end in (self._wake_read, self._wake_write, self._liveness_write):
                os.close(end)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _STOP_SIGNALS)
            threading.Thread(
                target=_exit_with_supervisor,
                args=(self._liveness_read, self._grace_seconds + KILL_AFTER_GRACE_SECONDS),
                daemon=True,
            ).start()
            spec.run(lambda text: _send_message(write, _ChildMessage(text)))
            code = 0
        except HomeroomError as error:
            code = error.exit_code
            if isinstance(error, ConfigurationError):
                _send_message(write, _ConfigurationRejected(error.message, error.hint))
            else:
                log.error("process_failed", process=spec.name, error=error.message)
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)

    def _wait(self) -> None:
        """Wait for a signal, a message, the next start, or the time to kill."""
        starts = [child.start_at for child in self._children if child.pid is None]
        deadline = min(starts, default=None) if self._kill_at is None else self._kill_at
        timeout = None if deadline is None else max(0.0, deadline - time.monotonic())
        if self._killed:
            timeout = None
        for key, _ in self._selector.select(timeout):
            if key.fd == self._wake_read:
                with contextlib.suppress(BlockingIOError):
                    os.read(self._wake_read, 4_096)
            else:
                self._read_messages(key.data)

    def _read_messages(self, child: _ChildProcess) -> None:
        try:
            received = os.read(child.message_fd, 65_536)
        except BlockingIOError:
            return
        if not received:
            self._close_messages(child)
            return
        *lines, child.partial_line = (child.partial_line + received).split(b"\n")
        for line in lines:
            message = msgspec.json.decode(line, type=_ChildMessage | _ConfigurationRejected)
            if isinstance(message, _ChildMessage):
                self._on_message(child.spec.name, message.text)
            else:
                self._configuration_error = ConfigurationError(message.message, hint=message.hint)

    def _close_messages(self, child: _ChildProcess) -> None:
        self._selector.unregister(child.message_fd)
        os.close(child.message_fd)
        child.message_fd = -1

    def _reap_children(self) -> None:
        for child in self._children:
            if child.pid is None:
                continue
            pid, status = os.waitpid(child.pid, os.WNOHANG)
            if pid == 0:
                continue
            if child.message_fd != -1:
                self._read_messages(child)  # those since the last wait
            if child.message_fd != -1:
                self._close_messages(child)
            self._schedule_restart(child, os.waitstatus_to_exitcode(status))

    def _schedule_restart(self, child: _ChildProcess, code: int) -> None:
        now = time.monotonic()
        uptime, child.pid = now - child.started_at, None
        if self._stop_signals or self._configuration_error:
            log.info("process_stopped", process=child.spec.name, exit_code=code)
            return
        child.failures = 1 if uptime >= BACKOFF_RESET_SECONDS else child.failures + 1
        delay = restart_backoff_seconds(child.failures)
        child.start_at = now + delay
        log.error(
            "process_ended",
            process=child.spec.name,
            exit_code=code,
            uptime_seconds=round(uptime, 3),
            restart_in_seconds=delay,
        )

    def _stop(self) -> None:
        """Send SIGTERM, and SIGKILL after a second signal or the time limit."""
        if self._kill_at is None:
            log.info(
                "shutdown_started", processes=sum(child.pid is not None for child in self._children)
            )
            self._kill_at = time.monotonic() + self._grace_seconds + KILL_AFTER_GRACE_SECONDS
            self._before_stop()
            self._signal(signal.SIGTERM)
        elif not self._killed and (self._stop_signals > 1 or time.monotonic() >= self._kill_at):
            self._killed = True
            self._signal(signal.SIGKILL)

    def _signal(self, number: signal.Signals) -> None:
        for child in self._children:
            if child.pid is not None:
                os.kill(child.pid, number)


def _send_message(write: int, message: _ChildMessage | _ConfigurationRejected) -> None:
    """Send a message; a supervisor that has ended is no error."""
    with contextlib.suppress(OSError):
        os.write(write, msgspec.json.encode(message) + b"\n")


def _exit_with_supervisor(liveness_fd: int, seconds: float) -> None:
    """Stop this process once the supervisor has ended; exit after the limit.

    Runs on a thread of its own, so that a process with a hanging event loop ends too.
    """
    while os.read(liveness_fd, 1):
        pass
    log.error("supervisor_lost", pid=os.getpid())
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(seconds)
    os._exit(1)
