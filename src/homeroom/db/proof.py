"""What a room wants to be summed up and checked of its rows: SQL that somebody else runs (pure)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Total:
    """A sum that must be the same wherever the rows are; ``sql`` gives one integer."""

    name: str
    sql: str


@dataclass(frozen=True, slots=True)
class Check:
    """Something that holds in every sound database; ``sql`` gives a row for each fault."""

    name: str
    fault: str
    """What is wrong, with ``{}`` for each column of a row."""
    sql: str


@dataclass(frozen=True, slots=True)
class Proof:
    """What a room wants to be summed up and checked, in SQL of this release's schema."""

    totals: Sequence[Total] = ()
    checks: Sequence[Check] = ()
