"""The Dockerfile's stages that build, run for real in folders, make a server that works.

There is no Docker engine to run it: the same commands run here, with the image's paths moved.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from tests.support.deploy_files import DEPLOY, ROOT, instructions
from tests.support.homeroom_process import clean_environment

pytestmark = pytest.mark.service
PATIENCE_SECONDS = 300
ENTRY = re.compile(r"^([a-z0-9][a-z0-9._-]*==\S+)((?:.*\\\n\s+--hash=\S+)+)", re.MULTILINE)


def locked(path: Path) -> dict[str, set[str]]:
    """Return the hashes of every pinned package of a lock."""
    return {
        pin: set(re.findall(r"--hash=(\S+)", hashes))
        for pin, hashes in ENTRY.findall(path.read_text())
    }


def test_the_locks_of_the_image_are_parts_of_the_whole_lock() -> None:
    whole = locked(ROOT / "constraints.txt")
    server = locked(DEPLOY / "requirements.txt")
    assert len(server) > 30
    for part in (server, locked(DEPLOY / "requirements-build.txt")):
        assert {pin: whole[pin] for pin in part} == part
    names = {pin.split("==")[0] for pin in server}
    assert {"asyncpg", "bullmq", "uvicorn"} <= names
    assert not {"pytest", "mypy", "hatchling"} & names


def build(folder: Path) -> Path:
    """Run the stages with /build and /opt moved into folders; return the moved /opt."""
    for stage in ("console", "build"):
        run_stage(stage, folder)
    return folder / "build" / "opt"


def run_stage(stage: str, folder: Path) -> None:
    """Run a stage in a folder of its name."""
    place = folder / stage
    moved = {"/build": str(place / "build"), "/opt": str(place / "opt")}
    environment = clean_environment()
    (place / "build").mkdir(parents=True)
    for name, rest in instructions(stage):
        if name == "COPY":
            copy(rest, folder, place / "build")
            continue
        for path, there in moved.items():
            rest = re.sub(rf"(?<![\w.]){path}(?=/| |$)", there, rest)
        if name == "ENV":
            environment |= dict(word.split("=", 1) for word in rest.split())
        elif name == "RUN":
            script = re.sub(r"(?<![\w/])python -m venv", f"{sys.executable} -m venv", rest)
            ran = subprocess.run(
                ["sh", "-euc", script],
                cwd=place / "build",
                env=environment,
                capture_output=True,
                text=True,
                timeout=PATIENCE_SECONDS,
                check=False,
            )
            assert ran.returncode == 0, ran.stdout[-2_000:] + ran.stderr[-2_000:]


def copy(rest: str, folder: Path, target: Path) -> None:
    """Do a COPY, from the checkout as .dockerignore leaves it or from an earlier stage."""
    *sources, there = rest.split()
    root = ROOT
    if sources[0].startswith("--from="):
        root = folder / sources.pop(0).removeprefix("--from=")
    left_out = shutil.ignore_patterns("__pycache__", "node_modules", "dist")
    for source in sources:
        path = root / source.lstrip("/")
        if path.is_dir():
            ignored = None if path.name == "dist" else left_out
            shutil.copytree(path, target / there, ignore=ignored)
        else:
            (target / there).mkdir(exist_ok=True)
            shutil.copy(path, target / there)


def test_the_image_has_a_server_whose_health_check_succeeds(tmp_path: Path) -> None:
    programs = build(tmp_path) / "homeroom" / "bin"
    assert not list(programs.glob("pip*"))
    environment = {
        **clean_environment(HOMEROOM_DATA_DIR=str(tmp_path / "data"), HOMEROOM_PORT="0"),
        "PATH": f"{programs}:{os.environ['PATH']}",
    }
    told = subprocess.run(
        ["homeroom", "check", "--json"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert json.loads(told.stdout)["items"]
    [default] = [yaml.safe_load(rest) for name, rest in instructions("server") if name == "CMD"]
    server = subprocess.Popen(
        [programs / "homeroom", *default], env=environment, stdout=subprocess.PIPE, text=True
    )
    try:
        assert server.stdout is not None
        url = server.stdout.readline().split()[3]
        [check] = [rest for name, rest in instructions("server") if name == "HEALTHCHECK"]
        words = json.loads(check.partition(" CMD ")[2])
        words = [word.replace("http://127.0.0.1:8420", url) for word in words]
        assert subprocess.run(words, env=environment, check=False).returncode == 0
        server.send_signal(signal.SIGTERM)
        assert server.wait(60) == 0
        assert subprocess.run(words, env=environment, check=False, stderr=-3).returncode != 0
    finally:
        server.kill()
        server.communicate()
