"""Homeroom's wheel, installed into environments that hold only what its metadata asks for.

The packages of an environment are links to those of the test's own interpreter, so that nothing is
fetched; what the wheel does not name cannot be imported.
"""

from __future__ import annotations

import csv
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from importlib.metadata import Distribution, PathDistribution, distribution, distributions
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from tests.support.condition import PATIENCE_SECONDS
from tests.support.homeroom_process import clean_environment

ROOT = Path(__file__).resolve().parents[2]


def build_distributions(folder: Path) -> tuple[Path, Path]:
    """Build source distribution and wheel from this checkout; return their files."""
    run_python("-m", "hatchling", "build", "-d", str(folder), cwd=ROOT)
    [wheel], [source] = folder.glob("*.whl"), folder.glob("*.tar.gz")
    return source, wheel


def run_python(*words: str, cwd: Path) -> None:
    """Run the test's interpreter; fail with its output."""
    done = subprocess.run(
        [sys.executable, *words],
        cwd=cwd,
        env=clean_environment(),
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2_000:] + done.stderr[-2_000:]


class InstalledWheel:
    """A virtual environment with the wheel, some of its extras, and a folder to work in."""

    def __init__(self, folder: Path, wheel: Path, *extras: str) -> None:
        """Create the environment in ``folder``."""
        self.home = folder / "home"
        self.home.mkdir(parents=True)
        place = folder / "venv"
        run_python("-m", "venv", "--without-pip", str(place), cwd=folder)
        self.program = place / "bin" / "homeroom"
        run_python(
            *("-m", "pip", "--disable-pip-version-check", "--python", str(place / "bin/python")),
            *("install", "--quiet", "--no-deps", "--no-index", str(wheel)),
            cwd=folder,
        )
        [packages] = place.glob("lib/python*/site-packages")
        [metadata] = packages.glob("homeroom-*.dist-info")
        link_packages(packages, required_packages(PathDistribution(metadata), extras))

    def environment(self, **settings: str) -> dict[str, str]:
        """Return the environment of a command with these settings alone."""
        return clean_environment(HOMEROOM_DATA_DIR=str(self.home / "data"), **settings)

    def run(
        self, *words: str, patience_seconds: float = PATIENCE_SECONDS, **settings: str
    ) -> subprocess.CompletedProcess[str]:
        """Run a command to its end, outside of the checkout."""
        return subprocess.run(
            [self.program, *words],
            cwd=self.home,
            env=self.environment(**settings),
            capture_output=True,
            text=True,
            timeout=patience_seconds,
            check=False,
        )


def required_packages(root: Distribution, extras: tuple[str, ...]) -> dict[str, Distribution]:
    """Return the distributions that a distribution needs, through others too, by their names."""
    found: dict[str, Distribution] = {}
    seen: set[tuple[str, str]] = set()
    waiting = [(root, extra) for extra in ("", *extras)]
    while waiting:
        dist, extra = waiting.pop()
        for text in dist.requires or ():
            needed = Requirement(text)
            if needed.marker is not None and not needed.marker.evaluate({"extra": extra}):
                continue
            name = canonicalize_name(needed.name)
            found[name] = distribution(name)
            for each in ("", *needed.extras):
                if (name, each) not in seen:
                    seen.add((name, each))
                    waiting.append((found[name], each))
    return found


def link_packages(target: Path, packages: dict[str, Distribution]) -> None:
    """Link the files of distributions into a folder; a folder of one distribution is one link."""
    shared = _shared_folders()
    for dist in packages.values():
        base = Path(str(dist.locate_file("")))
        linked = {
            next(each for each in (*_parents(path), path) if each not in shared)
            for path in _installed_files(dist)
        }
        for each in linked:
            (target / each).parent.mkdir(parents=True, exist_ok=True)
            (target / each).symlink_to(base / each)


@cache
def _shared_folders() -> frozenset[str]:
    """Return the folders with files of several installed distributions, such as ``google``."""
    owners: dict[str, set[Distribution]] = {}
    for dist in distributions():
        for path in _installed_files(dist):
            for folder in _parents(path):
                owners.setdefault(folder, set()).add(dist)
    return frozenset(folder for folder, dists in owners.items() if len(dists) > 1)


def _parents(path: str) -> Iterator[str]:
    """Yield the folders around a file, the outermost first."""
    end = path.find("/")
    while end != -1:
        yield path[:end]
        end = path.find("/", end + 1)


def _installed_files(dist: Distribution) -> Iterator[str]:
    """Yield the modules and metadata of a distribution; ``Distribution.files`` takes seconds."""
    for path, *_ in csv.reader((dist.read_text("RECORD") or "").splitlines()):
        if not path.startswith(("../", "/")) and "__pycache__" not in path:
            yield path
