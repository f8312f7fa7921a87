"""Write constraints.txt: every package of the closure with its version and the hashes of its files.

Run by `make lock`. The closure is Homeroom with all extras, the build backend included, so that an
installation from the lock reaches for nothing that is not in it. The locks in deploy/ are parts of
it: what a server needs, for images that hold nothing else, and what builds Homeroom's wheel.
"""

import argparse
import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LOCK = ROOT / "constraints.txt"
PARTS = {
    "deploy/requirements.txt": ("--extra=oidc", "--extra=postgres", "--extra=redis"),
    "deploy/requirements-build.txt": ("--build-deps-for=wheel", "--only-build-deps"),
}
HEADER = """\
# Every package that `make setup` installs, with the hashes of its files. Written by `make lock`.
# It names no registry: pip asks the one it is configured for, and the hashes decide what it takes.
"""
PART_HEADER = """\
# A part of constraints.txt for deploy/Dockerfile, resolved with: {}. Written by `make lock`.
"""
# Local wheel folders and second indexes of one machine may hold rebuilt files whose hashes match on
# no other machine, so they are left out while the lock is made. A replaced main index stays in use.
MACHINE_ONLY = ("PIP_FIND_LINKS", "PIP_EXTRA_INDEX_URL", "PIP_NO_INDEX", "PIP_CONSTRAINT")
# A pinned line: `name==1.2.3 \`; and what must never stand in the lock.
PINNED = re.compile(r"^([a-z0-9][a-z0-9._-]*)==\S+", re.MULTILINE)
ADDRESS = re.compile(r"[a-z+]+://|--(?:index-url|extra-index-url|find-links|trusted-host)")


def main_index() -> str | None:
    """Return the package index that pip is configured to use, or None for its default."""
    if found := os.environ.get("PIP_INDEX_URL"):
        return found
    asked = subprocess.run(
        [sys.executable, "-m", "pip", "config", "get", "global.index-url"],
        capture_output=True,
        text=True,
        check=False,
    )
    return asked.stdout.strip() or None


def compile_lock(target: Path, upgrade: bool, choice: tuple[str, ...] = ("--all-extras",)) -> None:
    """Resolve the closure of pyproject.toml into `target`, keeping the versions found there.

    `choice` are the options of pip-compile that say what is in it.
    """
    environment = {name: value for name, value in os.environ.items() if name not in MACHINE_ONLY}
    if index := main_index():
        environment["PIP_INDEX_URL"] = index
    environment["PIP_CONFIG_FILE"] = os.devnull
    options = ["--quiet", "--generate-hashes", "--strip-extras", "--allow-unsafe"]
    options += choice
    options += ["--no-header", "--no-annotate", "--no-emit-index-url", "--no-emit-find-links"]
    options += ["--no-emit-trusted-host", "--no-emit-options", "--resolver=backtracking"]
    if upgrade:
        options.append("--upgrade")
    subprocess.run(
        [
            sys.executable,
            "-m",
            "piptools",
            "compile",
            *options,
            "-o",
            str(target),
            "pyproject.toml",
        ],
        cwd=ROOT,
        env=environment,
        check=True,
    )


def finish(text: str, header: str = HEADER) -> str:
    """Return a lock with its header; raise SystemExit when a line has no hash or an address."""
    body = "\n".join(line for line in text.splitlines() if line and not line.startswith("#")) + "\n"
    if found := ADDRESS.search(body):
        raise SystemExit(f"constraints.txt would hold an address: {found.group()}")
    for entry in re.split(r"^(?=[a-z0-9])", body, flags=re.MULTILINE)[1:]:
        if not PINNED.match(entry) or "--hash=sha256:" not in entry:
            raise SystemExit(f"constraints.txt would hold a line without version or hash: {entry}")
    return header + body


def main() -> None:
    """Make the lock anew, keeping the versions that are there unless --upgrade is given."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--upgrade", action="store_true", help="take the newest allowed versions")
    upgrade = parser.parse_args().upgrade
    draft = LOCK.with_suffix(".draft")
    try:
        if LOCK.exists():
            draft.write_text(LOCK.read_text())
        compile_lock(draft, upgrade)
        LOCK.write_text(finish(draft.read_text()))
        for part, choice in PARTS.items():
            draft.write_text(LOCK.read_text())
            compile_lock(draft, upgrade=False, choice=choice)
            header = PART_HEADER.format(" ".join(choice))
            (ROOT / part).write_text(finish(draft.read_text(), header))
    finally:
        draft.unlink(missing_ok=True)
    for lock in (LOCK.name, *PARTS):
        print(f"{lock}: {len(PINNED.findall((ROOT / lock).read_text()))} packages")


if __name__ == "__main__":
    main()
