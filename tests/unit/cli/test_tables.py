"""Tables on narrow terminals: no id is broken, and what is left out is named."""

from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console

from homeroom.cli import app, terminal
from homeroom.cli.completions import STEP_COLUMNS
from homeroom.cli.job_view import JOB_COLUMNS, QUEUE_COLUMNS, WORKER_COLUMNS

ID = "019ab6a0-7c1e-7d52-8b07-3a1d5f0c9e11"
WEEKS = tuple(f"26-W{week}" for week in range(10, 50))


def drawn(columns: tuple[str, ...], cells: list[object], width: int = 80) -> tuple[list[str], str]:
    kept = terminal.fitting_columns(columns, [cells], width)
    console = Console(width=width, file=io.StringIO())
    console.print(terminal.rich_table([columns[i] for i in kept], [[cells[i] for i in kept]]))
    assert isinstance(console.file, io.StringIO)
    return [columns[i] for i in kept], console.file.getvalue()


@pytest.mark.parametrize(
    "columns", [JOB_COLUMNS, QUEUE_COLUMNS, WORKER_COLUMNS, STEP_COLUMNS], ids=lambda each: each[0]
)
def test_ids_stay_whole_at_80_columns(columns: tuple[str, ...]) -> None:
    cells: list[object] = [ID, *(f"cell{index}" for index in range(1, len(columns)))]
    kept, text = drawn(columns, cells)
    assert ID in text
    assert kept[0] == columns[0]
    assert all(len(line) <= 80 for line in text.splitlines())
    for name, cell in zip(columns, cells, strict=True):
        assert (str(cell) in text) is (name in kept)


def test_a_state_stays_longer_than_a_host_and_new_weeks_longer_than_old_ones() -> None:
    kept, _ = drawn(WORKER_COLUMNS, [ID, "running", "h" * 30, 1, 2, "s" * 10, "b" * 10])
    assert ("STATE" in kept, "HOST" in kept) == (True, False)
    kept, _ = drawn(("NAME", *WEEKS, "MISSED"), ["Ada", *("ok" for _ in WEEKS), 3])
    assert (kept[0], kept[-2:]) == ("NAME", ["26-W49", "MISSED"])
    assert "26-W10" not in kept


def test_text_continues_in_its_cell_and_a_wide_terminal_shows_all() -> None:
    kept, text = drawn(("ID", "ERROR"), [ID, "the partner answered 503 " * 5])
    assert kept == ["ID", "ERROR"]
    assert text.count("partner") == 5
    assert drawn(JOB_COLUMNS, [ID] * len(JOB_COLUMNS), 1_000)[0] == list(JOB_COLUMNS)


def test_wide_may_stand_anywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[bool] = []
    monkeypatch.setattr(terminal, "show_all_columns", lambda: called.append(True))

    def run(*words: str) -> Any:
        with pytest.raises(SystemExit) as ended:
            app(list(words))
        return ended.value.code

    assert run("jobs", "list", "--wide", "--help") == 0
    assert run("--wide", "docs", "http") == 0
    assert run("jobs", "--help", "--", "--wide") == 0
    assert len(called) == 2
