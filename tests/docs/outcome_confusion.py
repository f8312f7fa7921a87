"""The confusion matrix of outcome readings, as the lines of a table in Markdown."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from homeroom.lessonplans.bloom import BloomLevel, OutcomeDomain
from homeroom.lessonplans.outcome_reading import read_outcome

LABELLED = Path(__file__).parents[1] / "unit/lessonplans/labelled_outcomes.csv"


def confusion_lines(rows: Sequence[Mapping[str, str]]) -> list[str]:
    """Return two tables: labelled levels and domains down, readings across."""
    readings = [
        read_outcome(row["text"], "de" if row["language"] == "de" else "en") for row in rows
    ]
    lines: list[str] = []
    for name, values in (("level", list(BloomLevel)), ("domain", list(OutcomeDomain))):
        pairs = Counter(
            (row[name], str(getattr(reading, name)))
            for row, reading in zip(rows, readings, strict=True)
        )
        lines += [""] if lines else []
        lines.append(f"| labelled {name} | " + " | ".join(value.value for value in values) + " |")
        lines.append("|---" * (len(values) + 1) + "|")
        lines += [
            f"| {label.value} | "
            + " | ".join(str(pairs[label.value, v.value]) for v in values)
            + " |"
            for label in values
        ]
    return lines


if __name__ == "__main__":
    text = LABELLED.read_text(encoding="utf-8").splitlines()
    print("\n".join(confusion_lines(list(csv.DictReader(text, delimiter=";")))))
