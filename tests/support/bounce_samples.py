"""The sample mails in the source distribution of flufl.bounce, fetched when a test needs them."""

from __future__ import annotations

import ast
import subprocess
import sys
import tarfile
from dataclasses import dataclass
from pathlib import Path

_NAME = "flufl_bounce-6.0.0"
_SHA256 = "a1df16b9d1877ae4536f7d76c00d8421fcefbe694f80f5285d05c45a2547b1bc"
_CACHE = Path(__file__).parents[2] / "build" / "samples"


@dataclass(frozen=True)
class BounceSample:
    """A mail, and what the library reads in it."""

    name: str
    raw: bytes
    is_temporary: bool


def bounce_samples() -> list[BounceSample]:
    """Return the samples in which the library finds addresses, or none without a registry."""
    archive = _download()
    if archive is None:
        return []
    with tarfile.open(archive) as opened:
        files = {
            Path(each.name).name: found.read()
            for each in opened.getmembers()
            if "/tests/" in each.name and (found := opened.extractfile(each)) is not None
        }
    samples: dict[str, BounceSample] = {}
    for _, name, addresses, is_temporary in _table(files["test_detectors.py"]):
        if addresses:
            samples.setdefault(name, BounceSample(name, files[name], is_temporary))
    return list(samples.values())


def _table(source: bytes) -> list[tuple[str, str, list[bytes], bool]]:
    for node in ast.parse(source).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "DETECTORS":
            table: list[tuple[str, str, list[bytes], bool]] = ast.literal_eval(node.value)
            return table
    raise AssertionError("The archive has no table of samples.")


def _download() -> Path | None:
    archive = _CACHE / f"{_NAME}.tar.gz"
    if archive.exists():
        return archive
    _CACHE.mkdir(parents=True, exist_ok=True)
    pinned = _CACHE / "samples.txt"
    pinned.write_text(f"flufl.bounce==6.0.0 --hash=sha256:{_SHA256}\n")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
    command += ["--no-binary", ":all:", "--require-hashes", "--dest", str(_CACHE)]
    ended = subprocess.run([*command, "-r", str(pinned)], capture_output=True, timeout=300)
    return archive if ended.returncode == 0 and archive.exists() else None
