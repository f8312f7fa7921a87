"""The differences of two plan documents, lesson by lesson (pure)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Any, Literal

_MAX_TEXT, _SHOWN_BEFORE = 72, 20
_COMPARED = (
    *("title", "durationMinutes", "stage", "outcomes", "priorKnowledge", "keyPoints"),
    *("vocabulary", "misconceptions", "materials", "explanation", "activities", "checks"),
    *("practice", "assessments", "starterQuiz", "exitQuiz", "differentiation", "homework"),
    *("references", "notes"),
)
"""The parts that are compared; who wrote them, and when, is not."""


@dataclass(frozen=True, slots=True)
class ValueChange:
    """A value that differs, with its path in the lesson; None: it is not there."""

    path: str
    before: Any
    after: Any


@dataclass(frozen=True, slots=True)
class LessonDifference:
    """A lesson that differs, or that only one of the plans has."""

    number: str
    title: str
    kind: Literal["changed", "removed", "added"]
    changes: tuple[ValueChange, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return the difference as JSON."""
        return {
            "number": self.number,
            "title": self.title,
            "kind": self.kind,
            "changes": [
                {"path": each.path, "before": each.before, "after": each.after}
                for each in self.changes
            ],
        }

    def lines(self) -> Iterator[str]:
        """Yield the difference as text of at most 80 columns."""
        yield _shorten(f"{self.number} {self.title} ({self.kind})", 80)
        for change in self.changes:
            yield f"  {change.path}"
            old, new = (
                None if value is None else _text(value) for value in (change.before, change.after)
            )
            start = _first_difference(old or "", new or "")
            for mark, text in (("-", old), ("+", new)):
                if text is not None:
                    yield f"  {mark} {_shorten(_cut_front(text, start), _MAX_TEXT)}"


def compare_plans(
    before: Mapping[str, Any], after: Mapping[str, Any], number: str | None = None
) -> list[LessonDifference]:
    """Return the lessons that differ, in order; with ``number`` only that lesson."""
    old, new = _lessons(before), _lessons(after)
    differences = []
    for key in sorted({*old, *new}, key=_order):
        if number is not None and key != number:
            continue
        if key not in new:
            differences.append(LessonDifference(key, old[key]["title"], "removed"))
        elif key not in old:
            differences.append(LessonDifference(key, new[key]["title"], "added"))
        else:
            changes = tuple(
                change
                for part in _COMPARED
                for change in _compare(old[key].get(part), new[key].get(part), part)
            )
            if changes:
                differences.append(LessonDifference(key, new[key]["title"], "changed", changes))
    return differences


def _lessons(document: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    return {
        lesson["number"]: lesson for module in document["modules"] for lesson in module["lessons"]
    }


def _order(number: str) -> tuple[int, ...]:
    return tuple(int(part) for part in number.split("."))


def _compare(before: Any, after: Any, path: str) -> Iterator[ValueChange]:
    if before == after or (not before and not after):
        return
    if isinstance(before, dict) and isinstance(after, dict):
        for key in dict.fromkeys([*before, *after]):
            yield from _compare(before.get(key), after.get(key), f"{path}/{key}")
    elif isinstance(before, list) and isinstance(after, list):
        yield from _compare_lists(before, after, path)
    else:
        yield ValueChange(path, before, after)


def _compare_lists(before: list[Any], after: list[Any], path: str) -> Iterator[ValueChange]:
    """Compare lists entry by entry; an entry that moved counts as removed and added."""
    matcher = SequenceMatcher(None, [_text(one) for one in before], [_text(one) for one in after])
    for tag, start, end, other_start, other_end in matcher.get_opcodes():
        if tag == "equal":
            continue
        old, new = before[start:end], after[other_start:other_end]
        for position in range(max(len(old), len(new))):
            yield from _compare(
                old[position] if position < len(old) else None,
                new[position] if position < len(new) else None,
                f"{path}/{start + position}",
            )


def _text(value: Any) -> str:
    """Return a value in one line, with names and values of objects."""
    if isinstance(value, Mapping):
        pairs = [f"{key}: {_text(each)}" for key, each in value.items() if each]
        return "; ".join(pairs)
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(_text(each) for each in value)
    return " ".join(str(value).split())


def _first_difference(old: str, new: str) -> int:
    """Return the length of the common beginning of two texts."""
    return next(
        (at for at, (one, other) in enumerate(zip(old, new, strict=False)) if one != other),
        min(len(old), len(new)),
    )


def _cut_front(text: str, start: int) -> str:
    """Return a text from shortly before the place where it differs."""
    before = start - _SHOWN_BEFORE
    return text if before <= 0 or len(text) <= _MAX_TEXT else f"…{text[before:]}"


def _shorten(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"
