"""Cells that a spreadsheet must not run."""

from __future__ import annotations

import pytest

from homeroom.csv_escape import escape_formula


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", "\uff1d1", "\t1", "\r1", "\n1"])
def test_text_that_starts_like_a_formula_is_made_harmless(text: str) -> None:
    assert escape_formula(text) == f"'{text}"


def test_where_semicolons_divide_a_cell_may_begin_within_one() -> None:
    assert escape_formula("x;=1+1;-y") == "x;'=1+1;'-y"
    assert escape_formula("a\t@b") == "a\t'@b"


@pytest.mark.parametrize("text", ["", "Ada = 1", "a-b", "pens; paper", "1;2"])
def test_other_text_stays_as_it_is(text: str) -> None:
    assert escape_formula(text) == text
