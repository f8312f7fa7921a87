"""Prometheus for tests: found or installed, on a free port, and ended; promtool beside it."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from tools.servers.debian import found_or_installed
from tools.servers.port import free_port

START_SECONDS = 30.0
_PACKAGE = "prometheus"


def need_promtool() -> str:
    """Return where promtool is, installing it where that is possible; raise ``Missing``."""
    return found_or_installed(_PACKAGE, lambda: shutil.which("promtool"))


def need_prometheus() -> str:
    """Return where Prometheus is, installing it where that is possible; raise ``Missing``."""
    return found_or_installed(_PACKAGE, lambda: shutil.which("prometheus"))


@contextmanager
def running(folder: Path, configuration: str) -> Iterator[str]:
    """Run a Prometheus with a configuration file's text; yield its URL. Raises ``Missing``."""
    program, port = need_prometheus(), free_port()
    file, log = folder / "prometheus.yml", folder / "prometheus.log"
    file.write_text(configuration, encoding="utf-8")
    url = f"http://127.0.0.1:{port}"
    with log.open("w") as output:
        process = subprocess.Popen(
            [
                program,
                f"--config.file={file}",
                f"--storage.tsdb.path={folder / 'prometheus-data'}",
                f"--web.listen-address=127.0.0.1:{port}",
            ],
            stdout=output,
            stderr=output,
        )
    try:
        deadline = time.monotonic() + START_SECONDS
        while not _is_ready(url):
            assert process.poll() is None, log.read_text(encoding="utf-8")
            assert time.monotonic() < deadline, "Prometheus does not answer"
            time.sleep(0.05)
        yield url
    finally:
        process.terminate()
        process.wait(START_SECONDS)


def _is_ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/-/ready").status_code == httpx.codes.OK
    except httpx.TransportError:
        return False
