"""Ralph, a learning record store that others wrote: installed apart, on a free port, and ended."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from tools.servers.debian import Missing
from tools.servers.port import free_port

KEY, SECRET = "homeroom", "a-secret-of-the-test"
START_SECONDS = 60.0
INSTALL_SECONDS = 300
_REQUIREMENTS = Path(__file__).with_suffix(".txt")
_FOLDER = Path(__file__).parents[2] / "build" / "ralph"
_LAUNCHER = """
import json, sys
import bcrypt, uvicorn
from pathlib import Path
from ralph.backends.data.base import BaseOperationType
from ralph.backends.lrs.fs import FSLRSBackend

port, key, secret, auth_file = sys.argv[1:]
user = {
    "username": key,
    "hash": bcrypt.hashpw(secret.encode(), bcrypt.gensalt(4)).decode(),
    "scopes": ["all"],
    "agent": {"mbox": "mailto:lrs@school.example"},
}
Path(auth_file).write_text(json.dumps([user]))
# Its file store refuses every second write otherwise.
FSLRSBackend.default_operation_type = BaseOperationType.APPEND
uvicorn.run("ralph.api:app", host="127.0.0.1", port=int(port), log_level="warning")
"""


def installed() -> Path:
    """Return the folder of its packages, installing them first; raise ``Missing``."""
    done, wanted = _FOLDER / ".homeroom-installed", _REQUIREMENTS.read_bytes()
    _FOLDER.mkdir(parents=True, exist_ok=True)
    with (_FOLDER.parent / "ralph.lock").open("w") as lock:
        # Processes come here at the same time: one installs, the others wait.
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not done.exists() or done.read_bytes() != wanted:
            shutil.rmtree(_FOLDER)
            _install(_FOLDER)
            done.write_bytes(wanted)
    return _FOLDER


def _install(folder: Path) -> None:
    said = subprocess.run(
        [
            *(sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"),
            *("--no-deps", "--no-compile", "--target", str(folder), "-r", str(_REQUIREMENTS)),
        ],
        capture_output=True,
        text=True,
        timeout=INSTALL_SECONDS,
        check=False,
    )
    if said.returncode:
        raise Missing(f"pip could not install Ralph:\n{said.stderr[-2000:]}")


@dataclass
class RalphServer:
    """A Ralph process with an empty store in a folder."""

    folder: Path
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Return the URL above ``/statements``."""
        return f"http://127.0.0.1:{self.port}/xAPI"

    def start(self) -> None:
        """Start it and wait until it answers; raise ``Missing`` where it cannot be installed."""
        store = self.folder / "store"
        store.mkdir()
        environ = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(installed()),
            "RALPH_APP_DIR": str(self.folder),
            "RALPH_AUTH_FILE": str(self.folder / "auth.json"),
            "RALPH_RUNSERVER_BACKEND": "fs",
            "RALPH_BACKENDS__LRS__FS__DEFAULT_DIRECTORY_PATH": str(store),
        }
        log = self.folder / "ralph.log"
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                [
                    *(sys.executable, "-c", _LAUNCHER, str(self.port), KEY, SECRET),
                    str(self.folder / "auth.json"),
                ],
                cwd=self.folder,
                env=environ,
                stdout=output,
                stderr=output,
            )
        deadline = time.monotonic() + START_SECONDS
        while not self.answers():
            assert self.process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, "Ralph does not answer"
            time.sleep(0.1)

    def answers(self) -> bool:
        """Return whether it answers requests."""
        try:
            return httpx.get(self.url + "/about", timeout=5, trust_env=False).status_code < 500
        except httpx.TransportError:
            return False

    def statements(self) -> list[dict[str, object]]:
        """Return what its store holds, the oldest first."""
        file = self.folder / "store" / "fs_lrs.jsonl"
        lines = file.read_text().splitlines() if file.exists() else []
        return [json.loads(line) for line in lines]

    def stop(self) -> None:
        """End it."""
        if self.process is not None:
            self.process.terminate()
            self.process.wait(START_SECONDS)
