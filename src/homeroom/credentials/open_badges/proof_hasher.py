"""The process that hashes documents for proofs, as the server sees it."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from homeroom.errors import Unavailable

IDLE_SECONDS = 60.0
"""Time after which an idle process is ended: it holds 45 MB of memory."""
TIMEOUT_SECONDS = 30.0
"""Most time for one document; the first one takes 0.3 s and others some milliseconds."""
_COMMAND = (sys.executable, "-m", "homeroom.credentials.open_badges.proof_hash")


class ProofHasher:
    """Hash documents in a child process, one at a time.

    The process starts with the first document and ends when it is idle. A process that has died is
    replaced.
    """

    def __init__(self, *, idle_seconds: float = IDLE_SECONDS) -> None:
        """Start nothing yet."""
        self._idle_seconds = idle_seconds
        self._process: asyncio.subprocess.Process | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._lock = asyncio.Lock()

    async def hash(self, document: Mapping[str, Any], options: Mapping[str, Any]) -> bytes:
        """Return the 64 bytes that a proof with these options signs.

        Raises ``ValueError`` for a document that cannot be hashed, ``Unavailable`` where the
        process cannot be started, dies or does not answer.
        """
        request = json.dumps([document, options]).encode() + b"\n"
        async with self._lock:
            if self._timer is not None:
                self._timer.cancel()
            try:
                async with asyncio.timeout(TIMEOUT_SECONDS):
                    response = await self._ask(request)
            except BaseException as error:  # its answer would be taken for that of the next one
                self._kill()
                if isinstance(error, OSError | TimeoutError):
                    raise Unavailable(
                        "The process that hashes credentials cannot be used.",
                        retry_after_seconds=5,
                    ) from error
                raise
            self._timer = asyncio.get_running_loop().call_later(self._idle_seconds, self._end_input)
        word, _, text = response.decode().strip().partition(" ")
        if word != "ok":
            raise ValueError(f"the document cannot be hashed: {text}")
        return bytes.fromhex(text)

    async def _ask(self, request: bytes) -> bytes:
        process = self._process
        if process is None or process.returncode is not None:
            process = self._process = await asyncio.create_subprocess_exec(
                *_COMMAND, stdin=subprocess.PIPE, stdout=subprocess.PIPE
            )
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(request)
        await process.stdin.drain()
        response = await process.stdout.readline()
        if not response:
            raise BrokenPipeError("the process has died")
        return response

    def _kill(self) -> None:
        process, self._process = self._process, None
        if process is not None and process.returncode is None:
            with suppress(ProcessLookupError):
                process.kill()

    def _end_input(self) -> asyncio.subprocess.Process | None:
        """Let the process end, by its input."""
        process, self._process = self._process, None
        if process is not None and process.stdin is not None:
            process.stdin.close()
        return process

    async def close(self) -> None:
        """End the process and wait for it."""
        if self._timer is not None:
            self._timer.cancel()
        async with self._lock:
            process = self._end_input()
        if process is None:
            return
        try:
            async with asyncio.timeout(5):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()
