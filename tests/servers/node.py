"""The Node service of `examples/node-service`, installed once and kept between runs."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from pathlib import Path

import pytest
from tests.servers.redis import missing_server

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "node-service"
INSTALL_SECONDS = 300


@pytest.fixture(scope="session")
def node_service(request: pytest.FixtureRequest) -> Path:
    """Return a folder with the example and its packages, exactly those of its lock file."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        missing_server("There is no Node: apt install nodejs npm")
    lock = (EXAMPLE / "package-lock.json").read_bytes()
    name = f"node-service-{hashlib.sha256(lock).hexdigest()[:12]}"
    assert request.config.cache is not None
    folder = Path(request.config.cache.mkdir(name))
    for file in EXAMPLE.iterdir():
        if file.is_file():
            shutil.copy(file, folder)
    done = folder / "node_modules" / ".homeroom-installed"
    if not done.exists():
        # Processes of pytest-xdist come here at the same time: one installs, the others wait.
        command = (
            f"test -e {done} || (npm ci --ignore-scripts --no-audit --no-fund && touch {done})"
        )
        installed = subprocess.run(
            ["flock", str(folder / ".lock"), "sh", "-c", command],
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=INSTALL_SECONDS,
            check=False,
        )
        if installed.returncode:
            missing_server(f"npm could not install the example:\n{installed.stderr[-2000:]}")
    return folder
