"""Documents are hashed in a process, which is replaced when it dies and ends with its server."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.support.condition import until

from homeroom.credentials.open_badges import proof_hasher
from homeroom.credentials.open_badges.badge_document import CREDENTIALS_CONTEXT
from homeroom.credentials.open_badges.proof_hash import hash_for_proof
from homeroom.credentials.open_badges.proof_hasher import ProofHasher
from homeroom.errors import Unavailable

pytestmark = pytest.mark.anyio
OPTIONS = {"type": "DataIntegrityProof", "proofPurpose": "assertionMethod"}


def document(number: int, context: str = CREDENTIALS_CONTEXT) -> dict[str, object]:
    return {
        "@context": [context],
        "id": f"https://school.example/{number}",
        "type": ["VerifiableCredential"],
    }


def runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes() != b""  # empty once it has ended
    except FileNotFoundError:
        return False


@pytest.fixture
async def hasher() -> AsyncIterator[ProofHasher]:
    one = ProofHasher()
    yield one
    await one.close()


def process_of(hasher: ProofHasher) -> asyncio.subprocess.Process:
    process = hasher._process
    assert process is not None
    return process


async def test_each_document_gets_its_own_hash(hasher: ProofHasher) -> None:
    hashes = await asyncio.gather(*(hasher.hash(document(n), OPTIONS) for n in range(5)))
    assert hashes == [hash_for_proof(document(n), OPTIONS) for n in range(5)]


async def test_a_document_with_another_context_is_refused(hasher: ProofHasher) -> None:
    with pytest.raises(ValueError, match="cannot be hashed"):
        await hasher.hash(document(1, "https://evil.example/context"), OPTIONS)
    assert await hasher.hash(document(1), OPTIONS) == hash_for_proof(document(1), OPTIONS)


async def test_a_process_that_has_died_is_replaced(hasher: ProofHasher) -> None:
    await hasher.hash(document(1), OPTIONS)
    first = process_of(hasher)
    first.send_signal(signal.SIGKILL)
    await first.wait()
    assert await hasher.hash(document(2), OPTIONS) == hash_for_proof(document(2), OPTIONS)
    assert process_of(hasher).pid != first.pid


async def test_a_process_that_dies_over_a_document_fails_that_one_only(
    hasher: ProofHasher,
) -> None:
    await hasher.hash(document(1), OPTIONS)
    first = process_of(hasher)
    first.send_signal(signal.SIGSTOP)
    running = asyncio.ensure_future(hasher.hash(document(2), OPTIONS))
    await asyncio.sleep(0)
    first.send_signal(signal.SIGKILL)
    with pytest.raises(Unavailable):
        await running
    assert await hasher.hash(document(3), OPTIONS) == hash_for_proof(document(3), OPTIONS)


async def test_the_answer_to_a_cancelled_caller_reaches_no_other(hasher: ProofHasher) -> None:
    await hasher.hash(document(1), OPTIONS)
    process_of(hasher).send_signal(signal.SIGSTOP)
    running = asyncio.ensure_future(hasher.hash(document(2), OPTIONS))
    await asyncio.sleep(0.01)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert await hasher.hash(document(3), OPTIONS) == hash_for_proof(document(3), OPTIONS)


async def test_a_process_that_cannot_start_is_said(
    hasher: ProofHasher, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(proof_hasher, "_COMMAND", (str(tmp_path / "python"),))
    with pytest.raises(Unavailable, match="cannot be used"):
        await hasher.hash(document(1), OPTIONS)


async def test_an_idle_process_ends() -> None:
    hasher = ProofHasher(idle_seconds=0.01)
    await hasher.hash(document(1), OPTIONS)
    process = process_of(hasher)
    assert await asyncio.wait_for(process.wait(), 30) == 0
    assert await hasher.hash(document(2), OPTIONS) == hash_for_proof(document(2), OPTIONS)
    await hasher.close()


def test_the_process_ignores_the_signals_of_a_stop_and_ends_with_a_killed_server() -> None:
    program = (
        "import asyncio\n"
        "from homeroom.credentials.open_badges.proof_hasher import ProofHasher\n"
        "async def main():\n"
        "    hasher = ProofHasher()\n"
        f"    await hasher.hash({document(1)!r}, {OPTIONS!r})\n"
        "    print(hasher._process.pid, flush=True)\n"
        "    await asyncio.sleep(600)\n"
        "asyncio.run(main())\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, text=True
    ) as server:
        assert server.stdout is not None
        child = int(server.stdout.readline())
        assert runs(child)
        for number in (signal.SIGINT, signal.SIGTERM):
            os.kill(child, number)
        time.sleep(0.1)
        assert runs(child)
        server.kill()
    until(lambda: not runs(child))


def test_a_process_whose_server_was_killed_writes_no_traceback() -> None:
    with subprocess.Popen(
        proof_hasher._COMMAND,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdout.close()
        _, errors = process.communicate(json.dumps([document(1), OPTIONS]).encode() + b"\n")
    assert (process.returncode, errors) == (-signal.SIGPIPE, b"")
