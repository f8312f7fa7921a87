"""Programs in Node that tests and benchmarks run: copied, with the packages of their lock file."""

from __future__ import annotations

import fcntl
import shutil
import subprocess
from pathlib import Path

from tools.servers.debian import Missing

INSTALL_SECONDS = 300


_NOT_COPIED = ("node_modules", "dist")


def installed(source: Path, folder: Path, *, run_scripts: bool = False) -> Path:
    """Bring a program and exactly the packages of its lock file into a folder; return the folder.

    The folder may be one that an earlier call has filled. ``run_scripts`` lets packages run their
    install scripts: `node` from npm has one. Raises ``Missing`` without Node, or where npm cannot
    install.
    """
    if shutil.which("node") is None or shutil.which("npm") is None:
        raise Missing("There is no Node: apt install nodejs npm")
    folder.mkdir(parents=True, exist_ok=True)
    lock_file = (source / "package-lock.json").read_bytes()
    done = folder / "node_modules" / ".homeroom-installed"
    with (folder / ".lock").open("w") as lock:
        # Processes come here at the same time: one installs, the others wait.
        fcntl.flock(lock, fcntl.LOCK_EX)
        for file in folder.iterdir():
            if file.is_file() and file.name != ".lock" and not (source / file.name).exists():
                file.unlink()  # the source had it at an earlier call
        for file in source.iterdir():
            if file.is_file():
                shutil.copy(file, folder)
            elif file.name not in _NOT_COPIED:
                shutil.rmtree(folder / file.name, ignore_errors=True)
                shutil.copytree(file, folder / file.name)
        if not done.exists() or done.read_bytes() != lock_file:
            _install(folder, run_scripts)
            done.write_bytes(lock_file)
    return folder


def _install(folder: Path, run_scripts: bool) -> None:
    scripts = [] if run_scripts else ["--ignore-scripts"]
    said = subprocess.run(
        ["npm", "ci", *scripts, "--no-audit", "--no-fund"],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=INSTALL_SECONDS,
        check=False,
    )
    if said.returncode:
        raise Missing(f"npm could not install {folder.name}:\n{said.stderr[:2000]}")
