"""Readings of the machine: disk, descriptors, and the memory of a container."""

from __future__ import annotations

import os
from pathlib import Path

from homeroom import machine
from homeroom.machine import DiskSpace, Usage

GIB = 1024**3


def test_a_disk_is_low_below_a_tenth_and_one_gibibyte() -> None:
    assert not DiskSpace(2 * GIB, 100 * GIB).is_low
    assert DiskSpace(GIB - 1, 100 * GIB).is_low
    assert not DiskSpace(GIB - 1, 2 * GIB).is_low
    assert DiskSpace(2 * machine.FULL_DISK_BYTES, 100 * GIB).is_low
    assert not DiskSpace(2 * machine.FULL_DISK_BYTES, 100 * GIB).is_full
    assert DiskSpace(0, 100 * GIB).is_full


def test_the_disk_of_a_folder_is_read(tmp_path: Path) -> None:
    found = machine.disk_space(tmp_path)
    assert found is not None
    assert 0 < found.free <= found.total
    assert machine.disk_space(tmp_path / "missing") is None
    assert not machine.is_read_only(tmp_path)


def test_an_open_file_counts_as_a_descriptor(tmp_path: Path) -> None:
    before, by_id = machine.descriptor_usage(), machine.descriptor_usage(os.getpid())
    assert before is not None
    assert by_id == before
    with (tmp_path / "file").open("w"):
        after = machine.descriptor_usage()
    assert after is not None
    assert (after.used, after.limit) == (before.used + 1, before.limit)
    assert not machine.descriptors_are_exhausted()
    assert Usage(90, 100).is_high
    assert not Usage(89, 100).is_high


def test_the_memory_of_a_container_is_what_cannot_be_reclaimed(tmp_path: Path) -> None:
    (tmp_path / "memory.max").write_text("1000000\n")
    (tmp_path / "memory.current").write_text("950000\n")
    (tmp_path / "memory.stat").write_text("anon 500000\ninactive_file 150000\n")
    assert machine.memory_usage(tmp_path) == Usage(800_000, 1_000_000)
    (tmp_path / "memory.max").write_text("max\n")
    assert machine.memory_usage(tmp_path) is None


def test_the_first_version_of_cgroups_is_read_too(tmp_path: Path) -> None:
    folder = tmp_path / "memory"
    folder.mkdir()
    (folder / "memory.limit_in_bytes").write_text("1000000\n")
    (folder / "memory.usage_in_bytes").write_text("950000\n")
    (folder / "memory.stat").write_text("inactive_file 1\ntotal_inactive_file 50000\n")
    found = machine.memory_usage(tmp_path)
    assert found == Usage(900_000, 1_000_000)
    assert found.is_high
    (folder / "memory.limit_in_bytes").write_text(f"{2**63 - 4096}\n")
    assert machine.memory_usage(tmp_path) is None


def test_bytes_have_a_unit() -> None:
    numbers = (12, 2048, 3 * 1024**2, 1536 * 1024**2)
    assert [*map(machine.format_bytes, numbers)] == ["12 bytes", "2.0 KiB", "3.0 MiB", "1.5 GiB"]
