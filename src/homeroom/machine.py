"""Readings of this machine: disk space, file descriptors, and the memory limit."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

if sys.platform != "win32":
    import resource

LOW_DISK_BYTES = 1024**3
LOW_DISK_SHARE = 0.1
"""A disk is low below both: 1 GiB, and a tenth of its size."""
FULL_DISK_BYTES = 1024**2
"""Free space below which nothing is stored: a commit of events needs some hundred kibibytes."""
HIGH_USE_SHARE = 0.9
"""Share of the descriptors, or of the memory, that may be used without a warning."""
_CGROUP = Path("/sys/fs/cgroup")
_CGROUP_FILES = (
    ("memory.max", "memory.current", "memory.stat"),
    ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "memory/memory.stat"),
)
"""Limit, usage and statistics, in version 2 and version 1 of cgroups."""
_NO_LIMIT_BYTES = 2**60
"""Version 1 reports a number near 2**63 where there is no limit."""


@dataclass(frozen=True, slots=True)
class DiskSpace:
    """The space of a file system, in bytes, for users without privileges."""

    free: int
    total: int

    @property
    def is_low(self) -> bool:
        """Return whether the free space needs an operator's attention."""
        return self.free < min(LOW_DISK_BYTES, self.total * LOW_DISK_SHARE)

    @property
    def is_full(self) -> bool:
        """Return whether there is no room for one more commit."""
        return self.free < FULL_DISK_BYTES


@dataclass(frozen=True, slots=True)
class Usage:
    """The used part of a limited resource."""

    used: int
    limit: int

    @property
    def is_high(self) -> bool:
        """Return whether the limit is near."""
        return self.used >= self.limit * HIGH_USE_SHARE


def disk_space(path: Path) -> DiskSpace | None:
    """Return the space of the file system of a path; None where it cannot be read."""
    if sys.platform == "win32":
        return None
    try:
        found = os.statvfs(path)
    except OSError:
        return None
    return DiskSpace(found.f_bavail * found.f_frsize, found.f_blocks * found.f_frsize)


def is_read_only(folder: Path) -> bool:
    """Return whether the file system of a folder refuses all writing.

    Newer kernels do not show this in its flags after an error of the disk. The file that is opened
    for this has no name and no content.
    """
    flags = os.O_WRONLY | getattr(os, "O_TMPFILE", 0)
    try:
        if hasattr(os, "O_TMPFILE"):
            os.close(os.open(folder, flags, 0o600))
    except OSError as error:
        return error.errno == errno.EROFS
    return False


def descriptor_usage(pid: int | None = None) -> Usage | None:
    """Return the open file descriptors of this or another process, and their limit.

    None where there is no procfs, or where the process is another user's. A process without a free
    descriptor cannot read its own number, which is then the limit.
    """
    if sys.platform == "win32":
        return None
    folder = f"/proc/{'self' if pid is None else pid}"
    try:
        soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0] if pid is None else _limit_of(folder)
        return Usage(len(os.listdir(f"{folder}/fd")), soft)
    except OSError as error:
        is_exhausted = pid is None and error.errno == errno.EMFILE
        return Usage(soft, soft) if is_exhausted else None
    except ValueError:
        return None


def _limit_of(folder: str) -> int:
    with open(f"{folder}/limits") as limits:
        for line in limits:
            if line.startswith("Max open files"):
                return int(line.split()[3])
    raise ValueError("the limits name no open files")


def descriptors_are_exhausted() -> bool:
    """Return whether this process, or the machine, has no descriptor left."""
    try:
        os.close(os.open(os.devnull, os.O_RDONLY))
    except OSError as error:
        return error.errno in {errno.EMFILE, errno.ENFILE}
    return False


def raise_descriptor_limit(wanted: int = 65_536) -> None:
    """Raise this process's limit of descriptors as far as the system allows."""
    if sys.platform == "win32":
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def memory_usage(cgroup: Path = _CGROUP) -> Usage | None:
    """Return the memory of this container that cannot be reclaimed, and its limit.

    None without a limit. Cached files that were not used lately are no part of it, as for
    Kubernetes, whose kernel ends a process at the limit.
    """
    for limit_file, usage_file, stat_file in _CGROUP_FILES:
        try:
            limit = int((cgroup / limit_file).read_text())
            used = int((cgroup / usage_file).read_text())
            cached = sum(_inactive_file_bytes(cgroup / stat_file))
        except (OSError, ValueError):  # another version, or "max"
            continue
        if limit < _NO_LIMIT_BYTES:
            return Usage(max(used - cached, 0), limit)
    return None


def _inactive_file_bytes(stat: Path) -> Iterator[int]:
    lines = dict(line.split() for line in stat.read_text().splitlines())
    yield int(lines.get("total_inactive_file", lines.get("inactive_file", 0)))


def format_bytes(number: int) -> str:
    """Return a number of bytes with its unit, such as ``1.5 GiB``."""
    for size, unit in ((1024**4, "TiB"), (1024**3, "GiB"), (1024**2, "MiB"), (1024, "KiB")):
        if number >= size:
            return f"{number / size:.1f} {unit}"
    return f"{number} bytes"
