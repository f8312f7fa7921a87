"""Integrity rules of a package: SQL of sums and checks over its rows (pure)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class IntegrityTotal:
    """A sum that all copies of the rows must have; ``sql`` returns one integer."""

    name: str
    sql: str


@dataclass(frozen=True, slots=True)
class IntegrityCheck:
    """A rule that intact databases satisfy; ``sql`` returns a row for each fault."""

    name: str
    fault: str
    """The text of a fault, with ``{}`` for each column of its row."""
    sql: str


@dataclass(frozen=True, slots=True)
class IntegrityRules:
    """The totals and checks of a package, in SQL of this release's schema."""

    totals: Sequence[IntegrityTotal] = ()
    checks: Sequence[IntegrityCheck] = ()
