"""A curriculum as a file holds it: a body, and the place of each value (pure)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

MAX_FILE_BYTES = 1024 * 1024
MAX_ROWS = 5_000
MAX_COLUMNS = 60

ValuePath = tuple[str | int, ...]
"""The keys and indexes that lead from the body to a value."""
HOUR_FIELDS = ("contactHours", "reviewHours", "assessmentHours", "fieldPracticeHours")
"""Fields of a module whose values are hours; those of an outcome are in ``hours``."""


@dataclass(frozen=True, slots=True)
class FileFault:
    """A fault of a file; ``place`` is a line and column, or a cell."""

    place: str
    detail: str


@dataclass(slots=True)
class CurriculumSource:
    """The body in a file, not validated yet, and where each of its values is.

    ``headings`` are the file's own names of fields, where they differ from those of the body.
    Without a ``body`` the file could not be parsed and ``faults`` say why.
    """

    body: Any = None
    places: dict[ValuePath, str] = field(default_factory=dict)
    faults: list[FileFault] = field(default_factory=list)
    headings: Mapping[str, str] = field(default_factory=dict)

    def place(self, path: ValuePath) -> str:
        """Return the place of a value, or of the nearest part around one that is missing."""
        for length in range(len(path), -1, -1):
            if path[:length] in self.places:
                return self.places[path[:length]]
        return "line 1"
