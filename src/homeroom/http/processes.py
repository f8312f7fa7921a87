"""Keep several processes running side by side: start them, start again what dies, stop them all.

The keeper is small on purpose: it opens no database, runs no event loop and answers nobody, so that
there is little that could end it. Its processes are forks, so that they run the code that it was
started with, whatever is installed meanwhile, and share its memory.
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
from dataclasses import dataclass, field
from types import FrameType
from typing import NoReturn

import msgspec
import structlog

from homeroom.errors import ConfigurationError, HomeroomError

log = structlog.get_logger(__name__)

SETTLED_SECONDS = 60.0
"""A process that lived so long had a good start: its next end is its first one again."""
LONGEST_PAUSE_SECONDS = 30.0
KILL_AFTER_SECONDS = 12.0
"""How much longer than the grace period a process may take to stop."""
SAME_STOP_SECONDS = 1.0
"""Signals that come closer together are one: who stops may send to a process and to its group."""
_SIGNALS = frozenset({signal.SIGTERM, signal.SIGINT})

Tell = Callable[[str], None]
"""Send the keeper one line."""


@dataclass(frozen=True, slots=True)
class Member:
    """One of the processes: its name, and what it does until a signal stops it."""

    name: str
    run: Callable[[Tell], None]


class _Refusal(msgspec.Struct, frozen=True, tag="refused"):
    """What a process says before it ends for a faulty configuration."""

    message: str
    hint: str | None


class _Word(msgspec.Struct, frozen=True, tag="word"):
    """What a process has told."""

    text: str


@dataclass(slots=True)
class _Child:
    """A member and how its process is."""

    member: Member
    due: float = 0.0
    """When to start it, on the monotonic clock."""
    pid: int | None = None
    said: int = -1
    """Where its words are read."""
    started_at: float = 0.0
    failures: int = 0
    unread: bytes = field(default=b"")


def restart_pause(failures: int) -> float:
    """Return the seconds to wait before a process is started after its n-th end in a row (pure)."""
    return 0.0 if failures <= 1 else min(LONGEST_PAUSE_SECONDS, 0.5 * 2.0 ** (failures - 2))


class Keeper:
    """Run members until SIGTERM or SIGINT; their processes end when the keeper does, however."""

    def __init__(
        self,
        members: Sequence[Member],
        *,
        grace_seconds: float,
        told: Callable[[str, str], None],
        stopping: Callable[[], None],
    ) -> None:
        """Take the members; ``told`` gets a member's name and what it told.

        ``stopping`` is called in this process when the members are about to be stopped.
        """
        self._children = [_Child(member) for member in members]
        self._grace_seconds, self._told, self._stopping = grace_seconds, told, stopping
        self._asked = 0
        self._asked_at = -SAME_STOP_SECONDS
        self._refusal: ConfigurationError | None = None
        self._kill_at: float | None = None
        self._killed = False
        self._selector = selectors.DefaultSelector()
        self._wake_read, self._wake_write = os.pipe()
        # Nothing is ever written here. Only this process holds the writing end, so that its end,
        # by kill -9 too, is the end of the pipe for all who read.
        self._life_read, self._life_write = os.pipe()

    def run(self) -> None:
        """Keep the members running until a signal, then stop them.

        A second signal kills them. Raises ``ConfigurationError`` if a member refused the
        configuration, which a new start would not mend; ``HomeroomError`` if one had to be killed.
        """
        with self._signals():
            while True:
                if self._asked or self._refusal:
                    self._stop()
                    if not any(child.pid for child in self._children):
                        break
                else:
                    self._start_due()
                self._listen()
                self._reap()
        if self._refusal is not None:
            raise self._refusal
        if self._killed:
            raise HomeroomError("Some processes did not stop in time and were killed.")

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        """Let signals interrupt the waiting, instead of this process."""
        os.set_blocking(self._wake_read, False)
        os.set_blocking(self._wake_write, False)
        self._selector.register(self._wake_read, selectors.EVENT_READ)
        handlers = {number: signal.signal(number, self._on_signal) for number in _SIGNALS}
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
        for end in (self._wake_read, self._wake_write, self._life_read, self._life_write):
            os.close(end)

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        now = time.monotonic()
        if now - self._asked_at >= SAME_STOP_SECONDS:
            self._asked += 1
        self._asked_at = now

    def _start_due(self) -> None:
        now = time.monotonic()
        for child in self._children:
            if child.pid is None and child.due <= now:
                self._start(child)

    def _start(self, child: _Child) -> None:
        read, write = os.pipe()
        # A signal that came between the fork and the child's own handlers would be lost in it.
        signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        try:
            sys.stdout.flush()
            sys.stderr.flush()
            try:
                pid = os.fork()
            except OSError as error:  # no memory, or too many processes: the others go on
                os.close(read)
                os.close(write)
                child.failures += 1
                child.due = time.monotonic() + max(restart_pause(child.failures), 1.0)
                log.error("process_not_started", process=child.member.name, error=str(error))
                return
            if pid == 0:
                os.close(read)
                self._be(child.member, write)
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
        os.close(write)
        os.set_blocking(read, False)
        child.pid, child.said, child.unread = pid, read, b""
        child.started_at = time.monotonic()
        self._selector.register(read, selectors.EVENT_READ, child)
        log.info("process_started", process=child.member.name, pid=pid)

    def _be(self, member: Member, write: int) -> NoReturn:
        """Be the member's process, from the fork to its end."""
        code = 1
        try:
            signal.set_wakeup_fd(-1)
            for number in (*_SIGNALS, signal.SIGCHLD):
                signal.signal(number, signal.SIG_DFL)
            self._selector.close()
            for other in self._children:
                if other.said != -1:
                    os.close(other.said)
            for end in (self._wake_read, self._wake_write, self._life_write):
                os.close(end)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
            threading.Thread(
                target=_end_with_keeper,
                args=(self._life_read, self._grace_seconds + KILL_AFTER_SECONDS),
                daemon=True,
            ).start()
            member.run(lambda text: _say(write, _Word(text)))
            code = 0
        except HomeroomError as error:
            code = error.exit_code
            if isinstance(error, ConfigurationError):
                _say(write, _Refusal(error.message, error.hint))
            else:
                log.error("process_failed", process=member.name, error=error.message)
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)

    def _listen(self) -> None:
        """Wait for a signal, a word of a process, or the next time that something is due."""
        dues = [child.due for child in self._children if child.pid is None]
        until = min(dues, default=None) if self._kill_at is None else self._kill_at
        wait = None if until is None else max(0.0, until - time.monotonic())
        if self._killed:
            wait = None
        for key, _ in self._selector.select(wait):
            if key.fd == self._wake_read:
                with contextlib.suppress(BlockingIOError):
                    os.read(self._wake_read, 4_096)
            else:
                self._hear(key.data)

    def _hear(self, child: _Child) -> None:
        try:
            got = os.read(child.said, 65_536)
        except BlockingIOError:
            return
        if not got:
            self._selector.unregister(child.said)
            os.close(child.said)
            child.said = -1
            return
        *lines, child.unread = (child.unread + got).split(b"\n")
        for line in lines:
            word = msgspec.json.decode(line, type=_Word | _Refusal)
            if isinstance(word, _Word):
                self._told(child.member.name, word.text)
            else:
                self._refusal = ConfigurationError(word.message, hint=word.hint)

    def _reap(self) -> None:
        for child in self._children:
            if child.pid is None:
                continue
            pid, status = os.waitpid(child.pid, os.WNOHANG)
            if pid == 0:
                continue
            if child.said != -1:
                self._hear(child)  # its last words
            if child.said != -1:
                self._selector.unregister(child.said)
                os.close(child.said)
                child.said = -1
            self._ended(child, os.waitstatus_to_exitcode(status))

    def _ended(self, child: _Child, code: int) -> None:
        now = time.monotonic()
        lived, child.pid = now - child.started_at, None
        if self._asked or self._refusal:
            log.info("process_stopped", process=child.member.name, exit_code=code)
            return
        child.failures = 1 if lived >= SETTLED_SECONDS else child.failures + 1
        pause = restart_pause(child.failures)
        child.due = now + pause
        log.error(
            "process_ended",
            process=child.member.name,
            exit_code=code,
            lived_seconds=round(lived, 3),
            again_in_seconds=pause,
        )

    def _stop(self) -> None:
        """Ask the processes to stop; kill them when they were asked twice or take too long."""
        if self._kill_at is None:
            log.info("stopping", processes=sum(child.pid is not None for child in self._children))
            self._kill_at = time.monotonic() + self._grace_seconds + KILL_AFTER_SECONDS
            self._stopping()
            self._signal(signal.SIGTERM)
        elif not self._killed and (self._asked > 1 or time.monotonic() >= self._kill_at):
            self._killed = True
            self._signal(signal.SIGKILL)

    def _signal(self, number: signal.Signals) -> None:
        for child in self._children:
            if child.pid is not None:
                os.kill(child.pid, number)


def _say(write: int, word: _Word | _Refusal) -> None:
    """Tell the keeper; if it is gone, nobody needs to know."""
    with contextlib.suppress(OSError):
        os.write(write, msgspec.json.encode(word) + b"\n")


def _end_with_keeper(life: int, seconds: float) -> None:
    """Stop this process when the keeper has gone; end it if it has not stopped in time.

    Runs on a thread of its own, so that a loop that hangs ends too.
    """
    while os.read(life, 1):
        pass
    log.error("keeper_gone", pid=os.getpid())
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(seconds)
    os._exit(1)
