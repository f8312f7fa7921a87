"""Compare what was read back with what was sent, number by number."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from homeroom.demo.expect import ChapterSum, CourseSum, Expected
from homeroom.demo.found import Found, Item
from homeroom.demo.player import Answers, acknowledged_seconds, doubly_accepted

STEPS = ("analytics", "credential", "hr")
_QUEUES = {"credentials": 1, "dispatch": 2}
"""How many jobs a finished course puts into each queue."""
Key = tuple[str, str]
ByChapter = dict[tuple[str, ...], float]


@dataclass(frozen=True, slots=True)
class Line:
    """One comparison. ``note`` names the first difference."""

    what: str
    expected: str
    found: str
    ok: bool
    note: str = ""


def compare(expected: Expected, answers: Answers, found: Found) -> list[Line]:
    """Return every comparison, those of the events first and those of the partners last."""
    return [
        *_events(expected, answers, found),
        *_progress(expected, answers, found),
        *_completions(expected, found),
        *_jobs(expected, found),
        *_partners(expected, found),
    ]


def all_agree(lines: Sequence[Line]) -> bool:
    """Say whether every number is right."""
    return bool(lines) and all(line.ok for line in lines)


def _equal(what: str, expected: int, found: int, note: str = "") -> Line:
    ok = expected == found
    return Line(what, f"{expected:,}", f"{found:,}", ok, "" if ok else note)


def _same_ids(what: str, expected: Collection[str], found: Collection[str]) -> Line:
    odd = sorted(set(expected) ^ set(found))
    note = f"{len(odd):,} differ, the first is {odd[0]}" if odd else ""
    return Line(what, f"{len(expected):,}", f"{len(found):,}", not odd, note)


def _each(what: str, expected: Mapping[Any, Any], found: Mapping[Any, Any]) -> Line:
    """Compare two tables row by row; a row that one of them lacks is a difference."""
    odd = [
        key
        for key in sorted(expected.keys() | found.keys())
        if key not in expected or key not in found or expected[key] != found[key]
    ]
    note = ""
    if odd:
        key = odd[0]
        sent, read = expected.get(key, "nothing"), found.get(key, "nothing")
        note = f"{len(odd):,} differ; {' '.join(key)}: {sent} was expected, {read} was found"
    agree = len(expected.keys() | found.keys()) - len(odd)
    return Line(what, f"{len(expected):,}", f"{agree:,} agree", not odd, note)


def _events(expected: Expected, answers: Answers, found: Found) -> list[Line]:
    taken = answers.with_status("accepted", "duplicate", "quarantined")
    twice = doubly_accepted(answers)
    conflicts = sum(item["reason"] == "conflict" for item in found.held)
    return [
        _same_ids("events acknowledged", expected.ids("counted", "held"), taken),
        _same_ids("faulty events rejected", expected.ids("rejected"), _rejected(answers)),
        _same_ids(
            "events held for a new chapter",
            expected.ids("held"),
            answers.with_status("quarantined"),
        ),
        _equal("of these not counted yet", 0, len(found.held) - conflicts),
        _equal("answers of conflict", expected.conflict_answers, answers.count("conflict")),
        _equal("conflicting events kept aside", expected.conflicts, conflicts),
        _equal("events accepted twice", 0, len(twice), f"the first is {twice[0]}" if twice else ""),
    ]


def _rejected(answers: Answers) -> set[str]:
    return answers.with_status("rejected")


def _progress(expected: Expected, answers: Answers, found: Found) -> list[Line]:
    sent = acknowledged_seconds(answers, expected.time_spent)

    def table(of: Callable[[CourseSum], object]) -> dict[Key, object]:
        return {key: of(each) for key, each in expected.courses.items()}

    def listed(name: str) -> dict[Key, object]:
        return {key: each[name] for key, each in found.learners.items()}

    def single(name: str) -> dict[Key, object]:
        return {key: each[name] for key, each in found.progress.items()}

    return [
        _equal("seconds acknowledged, in the list", sent, _total(found.learners)),
        _equal("seconds acknowledged, one by one", sent, _total(found.progress)),
        _each("status of every attempt", table(lambda each: each.status), listed("status")),
        _each("progress, in the list", table(lambda each: each.progress), listed("progress")),
        _each("progress, one by one", table(lambda each: each.progress), single("progress")),
        _each("time spent in a course", table(lambda each: each.time_spent), listed("timeSpent")),
        _each("chapters done", table(lambda each: each.done_chapters), listed("completedChapters")),
        _each("time spent in a chapter", *_chapters(expected, found, "timeSpent")),
        _each("progress in a chapter", *_chapters(expected, found, "progress")),
        _each("best score of every quiz", *_scores(expected, found)),
    ]


def _total(table: Mapping[Key, Item]) -> int:
    return sum(int(each["timeSpent"]) for each in table.values())


def _chapters(expected: Expected, found: Found, name: str) -> tuple[ByChapter, ByChapter]:
    """Return a number of every chapter that somebody touched, as expected and as found."""
    read: ByChapter = {
        (*key, chapter["chapterId"]): float(chapter[name])
        for key, each in found.progress.items()
        for chapter in each["chapters"]
        if chapter["timeSpent"] or chapter["progress"]
    }
    sent: ByChapter = {
        (*key, id): float(chapter.time_spent if name == "timeSpent" else _shown(each, id, chapter))
        for key, each in expected.courses.items()
        for id, chapter in each.chapters.items()
    }
    return sent, read


def _scores(expected: Expected, found: Found) -> tuple[ByChapter, ByChapter]:
    """Return the best score that counts of every quiz, as expected and as found."""
    read: ByChapter = {
        (*key, chapter["chapterId"]): chapter["quiz"]["score"]
        for key, each in found.progress.items()
        for chapter in each["chapters"]
        if chapter["quiz"] is not None and chapter["quiz"]["score"] is not None
    }
    sent: ByChapter = {
        (*key, id): chapter.best_score
        for key, each in expected.courses.items()
        for id, chapter in each.chapters.items()
        if chapter.best_score is not None
    }
    return sent, read


def _shown(course: CourseSum, id: str, chapter: ChapterSum) -> float:
    return 100.0 if id in course.done else chapter.progress


def _completions(expected: Expected, found: Found) -> list[Line]:
    finished = expected.finished
    keys = Counter((each["userId"], each["courseId"]) for each in found.completions)
    moments = {
        (each["userId"], each["courseId"]): datetime.fromisoformat(each["completedAt"])
        for each in found.completions
    }
    done = Counter(
        step["name"]
        for each in found.completions
        for step in each["steps"]
        if step["status"] == "completed"
    )
    undone = [
        f"{each['id']} {step['name']}: {step['status']} {step['lastError'] or ''}"
        for each in found.completions
        for step in each["steps"]
        if step["status"] != "completed"
    ]
    return [
        _each("one completion a finished course", dict.fromkeys(finished, 1), keys),
        _each(
            "date of every completion",
            {key: each.completed_at for key, each in finished.items()},
            moments,
        ),
        *(
            _equal(f"steps done: {name}", len(finished), done[name], "; ".join(undone[:2]))
            for name in STEPS
        ),
        _equal("steps not done", 0, len(undone), "; ".join(undone[:2])),
    ]


def _jobs(expected: Expected, found: Found) -> list[Line]:
    lines = []
    for queue, share in _QUEUES.items():
        counts = found.queues[queue]["counts"] if queue in found.queues else Counter()
        wanted = len(expected.finished) * share
        lines.append(_equal(f"jobs completed: {queue}", wanted, counts["completed"]))
    left: Counter[str] = Counter()
    for each in found.queues.values():
        left.update(each["counts"])
    for state in ("waiting", "delayed", "active", "failed"):
        lines.append(_equal(f"jobs {state}", 0, left[state]))
    return lines


def _partners(expected: Expected, found: Found) -> list[Line]:
    count, partners = len(expected.finished), found.partners
    sent = Counter(
        each["destination"] for each in found.dispatches if each["status"] == "delivered"
    )
    lines = [
        _equal("badges at Credly", count, partners["credly"]["badges"]),
        _equal("badges issued twice", 0, partners["credly"]["doubled"]),
    ]
    for name in ("analytics", "hr"):
        inbox = partners[name]
        doubled = inbox["doubled"]
        lines += [
            _equal(f"{name}: dispatches delivered", count, sent[name]),
            _equal(f"{name}: courses it was told of", count, inbox["subjects"]),
            _equal(f"{name}: told twice", 0, len(doubled), "; ".join(list(doubled)[:2])),
            _equal(f"{name}: repeats that changed", 0, inbox["changedOnRepeat"]),
        ]
    refused = {name: each["refused"] for name, each in partners.items() if each["refused"]}
    lines.append(_equal("requests a partner refused", 0, sum(refused.values()), str(refused)))
    return lines
