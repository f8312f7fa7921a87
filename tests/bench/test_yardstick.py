"""The yardstick measures every workload, and writes a reference that it can read."""

from pathlib import Path

import pytest

from bench import yardstick

pytestmark = pytest.mark.service


def test_every_workload_is_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(yardstick, "ROUNDS", 1)
    figures = yardstick.measure(tmp_path)
    assert figures.keys() == yardstick.REFERENCE.keys() == yardstick.UNITS.keys()
    assert all(figure > 0 for figure in figures.values())
    report = yardstick.report(figures)
    assert all(unit in report for unit in yardstick.UNITS.values())


def test_a_written_reference_replaces_the_last_one() -> None:
    source = Path(yardstick.__file__).read_text()
    figures = dict.fromkeys(yardstick.REFERENCE, 123.0)
    once = yardstick.with_reference(source, "machine one", figures)
    twice = yardstick.with_reference(once, "machine two", figures)
    assert "machine one" in once
    assert "machine one" not in twice
    names: dict[str, object] = {"__name__": "written", "__file__": "written.py"}
    exec(compile(twice, "written.py", "exec"), names)
    assert (names["REFERENCE_MACHINE"], names["REFERENCE"]) == ("machine two", figures)
    assert yardstick.with_reference(once, "machine two", figures) == twice
