"""Compare the expected results with those read back through the APIs."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import httpx
import jwt

from homeroom.demo.expected import ExpectedChapter, ExpectedCourse, ExpectedResults
from homeroom.demo.player import AnswerTally, acknowledged_seconds, ids_accepted_twice

ApiItem = Mapping[str, Any]
LearnerCourse = tuple[str, str]
"""A user id and a course id."""
ChapterNumbers = dict[tuple[str, ...], float]
_SIGNED_HERE = "homeroom"
"""The issuer of credentials that the server signs."""
COMPLETION_STEPS = ("analytics", "credential", "hr")
_JOBS_PER_COMPLETION = {"credentials": 1, "dispatch": 2}
"""Jobs that a finished course adds to each queue."""
_PAGE_SIZE = 1_000
_CONCURRENCY = 8
_UNFINISHED_STATES = ("waiting", "delayed", "waitingChildren", "active")
_POLL_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class ComparisonLine:
    """One comparison. ``note`` names the first difference."""

    what: str
    expected: str
    found: str
    ok: bool
    note: str = ""
    group: str = ""
    """What it is about: one line of the summary."""


@dataclass(frozen=True, slots=True)
class ActualResults:
    """The results that were read back, in the form of the APIs."""

    learners: dict[LearnerCourse, ApiItem]
    """The items of the lists of learners."""
    progress: dict[LearnerCourse, ApiItem]
    """The same read one by one, with their chapters."""
    completions: list[ApiItem]
    dispatches: list[ApiItem]
    queues: dict[str, ApiItem]
    quarantined: list[ApiItem]
    partners: Mapping[str, ApiItem]
    credentials: list[ApiItem]
    verified: set[str]
    """Ids of the credentials whose JWS has a valid signature by a published key."""


async def list_items(api: httpx.AsyncClient, path: str, **query: str) -> AsyncIterator[ApiItem]:
    """Yield the items of all pages of a list."""
    cursor: str | None = None
    while True:
        more = {"cursor": cursor} if cursor else {}
        answer = await api.get(path, params={"limit": str(_PAGE_SIZE), **query, **more})
        answer.raise_for_status()
        page = answer.json()
        for item in page["items"]:
            yield item
        cursor = page["nextCursor"]
        if cursor is None:
            return


async def wait_for_idle_queues(api: httpx.AsyncClient, within_seconds: float) -> bool:
    """Wait until no job is unfinished; return False if that takes too long."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + within_seconds
    while loop.time() < deadline:
        queues = await _get_json(api, "/api/v1/queues")
        if not any(queue["counts"][name] for queue in queues for name in _UNFINISHED_STATES):
            return True
        await asyncio.sleep(_POLL_SECONDS)
    return False


async def read_actual(
    api: httpx.AsyncClient, sandbox_url: str, expected: ExpectedResults
) -> ActualResults:
    """Read all results that can be compared with the expected ones."""
    courses = sorted({course_id for _, course_id in expected.courses})
    learners: dict[LearnerCourse, ApiItem] = {}
    for course_id in courses:
        async for item in list_items(api, f"/api/v1/courses/{course_id}/learners"):
            learners[item["userId"], course_id] = item
    queues = {queue["name"]: queue for queue in await _get_json(api, "/api/v1/queues")}
    credentials = [item async for item in list_items(api, "/api/v1/credentials")]
    return ActualResults(
        learners=learners,
        progress=await _read_progress(api, list(learners)),
        completions=[item async for item in list_items(api, "/api/v1/completions")],
        dispatches=[item async for item in list_items(api, "/api/v1/dispatches")],
        queues=queues,
        quarantined=[item async for item in list_items(api, "/api/v1/progress/quarantine")],
        partners=await _get_json(api, f"{sandbox_url}/control/summary"),
        credentials=credentials,
        verified=await _verify_credentials(
            api, [each["id"] for each in credentials if each["issuer"] == _SIGNED_HERE]
        ),
    )


async def _verify_credentials(api: httpx.AsyncClient, ids: Collection[str]) -> set[str]:
    """Return the credentials that verify with the published keys alone."""
    if not ids:
        return set()
    keys = jwt.PyJWKSet.from_dict(await _get_json(api, "/issuer/jwks.json"))
    verified = set()
    for id in ids:
        answer = await api.get(f"/credentials/{id}.jwt")
        answer.raise_for_status()
        kid = jwt.get_unverified_header(answer.text)["kid"]
        with suppress(jwt.InvalidTokenError, KeyError):
            jwt.decode(answer.text, keys[kid], algorithms=["EdDSA"])
            verified.add(id)
    return verified


async def _read_progress(
    api: httpx.AsyncClient, keys: list[LearnerCourse]
) -> dict[LearnerCourse, ApiItem]:
    semaphore = asyncio.Semaphore(_CONCURRENCY)

    async def read_one(user_id: str, course_id: str) -> ApiItem:
        async with semaphore:
            item: ApiItem = await _get_json(
                api, f"/api/v1/courses/{course_id}/progress", userId=user_id
            )
            return item

    answers = await asyncio.gather(*(read_one(*key) for key in keys))
    return dict(zip(keys, answers, strict=True))


async def _get_json(api: httpx.AsyncClient, path: str, **query: str) -> Any:
    answer = await api.get(path, params=query)
    answer.raise_for_status()
    return answer.json()


def compare_results(
    expected: ExpectedResults, answers: AnswerTally, actual: ActualResults
) -> list[ComparisonLine]:
    """Return all comparisons, from the events to the partner systems."""
    return [
        *in_group("events", _compare_events(expected, answers, actual)),
        *in_group("progress", _compare_progress(expected, answers, actual)),
        *in_group("completions", _compare_completions(expected, actual)),
        *in_group("jobs", _compare_jobs(expected, actual)),
        *in_group("credentials", _compare_credentials(expected, actual)),
        *in_group("partners", _compare_partners(expected, actual)),
    ]


def in_group(group: str, lines: Sequence[ComparisonLine]) -> list[ComparisonLine]:
    """Return the comparisons as those of one group."""
    return [replace(line, group=group) for line in lines]


def all_agree(lines: Sequence[ComparisonLine]) -> bool:
    """Return whether every number agrees."""
    return bool(lines) and all(line.ok for line in lines)


def compare_numbers(what: str, expected: int, actual: int, note: str = "") -> ComparisonLine:
    """Compare two numbers; ``note`` is for a difference."""
    ok = expected == actual
    return ComparisonLine(what, f"{expected:,}", f"{actual:,}", ok, "" if ok else note)


def _compare_ids(what: str, expected: Collection[str], actual: Collection[str]) -> ComparisonLine:
    differing = sorted(set(expected) ^ set(actual))
    note = f"{len(differing):,} differ, the first is {differing[0]}" if differing else ""
    return ComparisonLine(what, f"{len(expected):,}", f"{len(actual):,}", not differing, note)


def _compare_tables(
    what: str, expected: Mapping[Any, Any], actual: Mapping[Any, Any]
) -> ComparisonLine:
    """Compare two tables row by row; a missing row is a difference."""
    differing = [
        key
        for key in sorted(expected.keys() | actual.keys())
        if key not in expected or key not in actual or expected[key] != actual[key]
    ]
    note = ""
    if differing:
        key = differing[0]
        sent, read = expected.get(key, "nothing"), actual.get(key, "nothing")
        note = f"{len(differing):,} differ; {' '.join(key)}: {sent} was expected, {read} was found"
    agree = len(expected.keys() | actual.keys()) - len(differing)
    return ComparisonLine(what, f"{len(expected):,}", f"{agree:,} agree", not differing, note)


def _compare_events(
    expected: ExpectedResults, answers: AnswerTally, actual: ActualResults
) -> list[ComparisonLine]:
    acknowledged = answers.with_status("accepted", "duplicate", "quarantined")
    twice = ids_accepted_twice(answers)
    conflicts = sum(item["reason"] == "conflict" for item in actual.quarantined)
    return [
        _compare_ids("events acknowledged", expected.ids("counted", "held"), acknowledged),
        _compare_ids("faulty events rejected", expected.ids("rejected"), _rejected_ids(answers)),
        _compare_ids(
            "events held for a new chapter",
            expected.ids("held"),
            answers.with_status("quarantined"),
        ),
        compare_numbers("of these not counted yet", 0, len(actual.quarantined) - conflicts),
        compare_numbers(
            "answers of conflict", expected.conflict_answers, answers.count("conflict")
        ),
        compare_numbers("conflicting events kept aside", expected.conflicts, conflicts),
        compare_numbers(
            "events accepted twice", 0, len(twice), f"the first is {twice[0]}" if twice else ""
        ),
    ]


def _rejected_ids(answers: AnswerTally) -> set[str]:
    return answers.with_status("rejected")


def _compare_progress(
    expected: ExpectedResults, answers: AnswerTally, actual: ActualResults
) -> list[ComparisonLine]:
    sent = acknowledged_seconds(answers, expected.time_spent)

    def table(of: Callable[[ExpectedCourse], object]) -> dict[LearnerCourse, object]:
        return {key: of(each) for key, each in expected.courses.items()}

    def listed(name: str) -> dict[LearnerCourse, object]:
        return {key: each[name] for key, each in actual.learners.items()}

    def single(name: str) -> dict[LearnerCourse, object]:
        return {key: each[name] for key, each in actual.progress.items()}

    return [
        compare_numbers("seconds acknowledged, in the list", sent, _total_seconds(actual.learners)),
        compare_numbers("seconds acknowledged, one by one", sent, _total_seconds(actual.progress)),
        _compare_tables(
            "status of every attempt", table(lambda each: each.status), listed("status")
        ),
        _compare_tables(
            "progress, in the list", table(lambda each: each.progress), listed("progress")
        ),
        _compare_tables(
            "progress, one by one", table(lambda each: each.progress), single("progress")
        ),
        _compare_tables(
            "time spent in a course", table(lambda each: each.time_spent), listed("timeSpent")
        ),
        _compare_tables(
            "chapters done", table(lambda each: each.done_chapters), listed("completedChapters")
        ),
        _compare_tables(
            "time spent in a chapter", *_chapter_numbers(expected, actual, "timeSpent")
        ),
        _compare_tables("progress in a chapter", *_chapter_numbers(expected, actual, "progress")),
        _compare_tables("best score of every quiz", *_quiz_scores(expected, actual)),
    ]


def _total_seconds(table: Mapping[LearnerCourse, ApiItem]) -> int:
    return sum(int(each["timeSpent"]) for each in table.values())


def _chapter_numbers(
    expected: ExpectedResults, actual: ActualResults, name: str
) -> tuple[ChapterNumbers, ChapterNumbers]:
    """Return a number of each chapter with events, as expected and as found."""
    read: ChapterNumbers = {
        (*key, chapter["chapterId"]): float(chapter[name])
        for key, each in actual.progress.items()
        for chapter in each["chapters"]
        if chapter["timeSpent"] or chapter["progress"]
    }
    sent: ChapterNumbers = {
        (*key, id): float(
            chapter.time_spent if name == "timeSpent" else _chapter_percent(each, id, chapter)
        )
        for key, each in expected.courses.items()
        for id, chapter in each.chapters.items()
    }
    return sent, read


def _quiz_scores(
    expected: ExpectedResults, actual: ActualResults
) -> tuple[ChapterNumbers, ChapterNumbers]:
    """Return the best counted score of each quiz, as expected and as found."""
    read: ChapterNumbers = {
        (*key, chapter["chapterId"]): chapter["quiz"]["score"]
        for key, each in actual.progress.items()
        for chapter in each["chapters"]
        if chapter["quiz"] is not None and chapter["quiz"]["score"] is not None
    }
    sent: ChapterNumbers = {
        (*key, id): chapter.best_score
        for key, each in expected.courses.items()
        for id, chapter in each.chapters.items()
        if chapter.best_score is not None
    }
    return sent, read


def _chapter_percent(course: ExpectedCourse, id: str, chapter: ExpectedChapter) -> float:
    return 100.0 if id in course.done else chapter.progress


def _compare_completions(expected: ExpectedResults, actual: ActualResults) -> list[ComparisonLine]:
    finished = expected.finished
    keys = Counter((each["userId"], each["courseId"]) for each in actual.completions)
    completion_times = {
        (each["userId"], each["courseId"]): datetime.fromisoformat(each["completedAt"])
        for each in actual.completions
    }
    done = Counter(
        step["name"]
        for each in actual.completions
        for step in each["steps"]
        if step["status"] == "completed"
    )
    unfinished = [
        f"{each['id']} {step['name']}: {step['status']} {step['lastError'] or ''}"
        for each in actual.completions
        for step in each["steps"]
        if step["status"] != "completed"
    ]
    return [
        _compare_tables("one completion a finished course", dict.fromkeys(finished, 1), keys),
        _compare_tables(
            "date of every completion",
            {key: each.completed_at for key, each in finished.items()},
            completion_times,
        ),
        *(
            compare_numbers(
                f"steps done: {name}", len(finished), done[name], "; ".join(unfinished[:2])
            )
            for name in COMPLETION_STEPS
        ),
        compare_numbers("steps not done", 0, len(unfinished), "; ".join(unfinished[:2])),
    ]


def _compare_jobs(expected: ExpectedResults, actual: ActualResults) -> list[ComparisonLine]:
    lines = []
    for queue, share in _JOBS_PER_COMPLETION.items():
        counts = actual.queues[queue]["counts"] if queue in actual.queues else Counter()
        count = len(expected.finished) * share
        lines.append(compare_numbers(f"jobs completed: {queue}", count, counts["completed"]))
    left: Counter[str] = Counter()
    for each in actual.queues.values():
        left.update(each["counts"])
    for state in ("waiting", "delayed", "active", "failed"):
        lines.append(compare_numbers(f"jobs {state}", 0, left[state]))
    return lines


def _compare_credentials(expected: ExpectedResults, actual: ActualResults) -> list[ComparisonLine]:
    signed = [key for key in expected.finished if key[1] in expected.signed_courses]
    found = [each for each in actual.credentials if each["issuer"] == _SIGNED_HERE]
    at_credly = len(expected.finished) - len(signed)
    return [
        _compare_tables(
            "one credential signed here a finished course",
            dict.fromkeys(signed, 1),
            Counter((each["userId"], each["courseId"]) for each in found),
        ),
        compare_numbers("of these verified with the keys", len(signed), len(actual.verified)),
        compare_numbers("badges at Credly", at_credly, actual.partners["credly"]["badges"]),
        compare_numbers("badges issued twice", 0, actual.partners["credly"]["doubled"]),
        compare_numbers(
            "mails to learners who finished a course",
            len(expected.finished),
            actual.partners["mail"]["accepted"],
        ),
    ]


def _compare_partners(expected: ExpectedResults, actual: ActualResults) -> list[ComparisonLine]:
    count, partners = len(expected.finished), actual.partners
    sent = Counter(
        each["destination"] for each in actual.dispatches if each["status"] == "delivered"
    )
    lines = []
    for name in ("analytics", "hr"):
        inbox = partners[name]
        doubled = inbox["doubled"]
        lines += [
            compare_numbers(f"{name}: dispatches delivered", count, sent[name]),
            compare_numbers(f"{name}: courses received", count, inbox["subjects"]),
            compare_numbers(
                f"{name}: courses received twice", 0, len(doubled), "; ".join(list(doubled)[:2])
            ),
            compare_numbers(f"{name}: repeats that changed", 0, inbox["changedOnRepeat"]),
        ]
    refused = {name: each["refused"] for name, each in partners.items() if each.get("refused")}
    lines.append(
        compare_numbers("requests a partner refused", 0, sum(refused.values()), str(refused))
    )
    return lines
