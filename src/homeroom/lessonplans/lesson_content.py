"""Checks of a lesson's quizzes, and of text that a model wrote (pure).

The limits of length are in words. In scripts that write no spaces, two characters count as a word.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence

from homeroom.lessonplans.lesson import ChoiceQuestion, LessonBody, LessonFinding
from homeroom.lessonplans.lesson_allocation import LessonSlot
from homeroom.lessonplans.lesson_parts import OPTIONAL_PARTS, part_value
from homeroom.lessonplans.open_places import find_open_places

QUIZ_PARTS = ("starterQuiz", "checks", "exitQuiz")
MAX_SENTENCE_WORDS = 45
READING_WORDS_PER_MINUTE = 50
"""Words that learners may have to read for each minute of a lesson: half of slow reading."""
_MAX_WORDS = {
    "term": 8, "definition": 50, "misconception": 40, "correction": 60, "key point": 40,
    "spoken explanation": 600, "question": 60, "answer": 30, "distractor": 30,
    "feedback on a question": 60, "practice task": 150, "feedback on a task": 120,
    "homework": 200, "support": 100, "stretch": 100, "accessibility": 100,
}  # fmt: skip
_READ_BY_LEARNERS = frozenset(
    {"term", "definition", "question", "answer", "distractor", "practice task", "homework"}
)
_WORD = re.compile(r"\w+")
_NO_SPACES = re.compile("[\u3040-\u30ff\u3400-\u9fff\u0e00-\u0eff]")
_SENTENCE_END = re.compile(r"[.!?;:\n\u3002\uff01\uff1f]+")
_EDGE_MARKS = " .,;:!?\"'()[]\u201c\u201d\u201e\u00ab\u00bb"


def check_quizzes(
    slot: LessonSlot, body: LessonBody, *, written: Collection[str] = ()
) -> list[LessonFinding]:
    """Return the failed checks of questions, and of lists without repetition.

    ``written`` are the parts that are blamed for a question that two parts have.
    """
    findings: list[LessonFinding] = []
    known = {each.id for each in slot.outcomes} | {each.id for each in slot.retrieves}
    asked: dict[str, str] = {}
    for part in sorted(QUIZ_PARTS, key=lambda part: (part in written, QUIZ_PARTS.index(part))):
        for question in part_value(body, part):
            findings += _check_question(question, part, known)
            text = _normalize(question.question)
            if text in asked:
                message = f"the question {question.question!r} is asked twice in the lesson"
                findings.append(LessonFinding("duplicate", message, part))
            asked[text] = part
    lists = {
        "vocabulary": [each.term for each in body.vocabulary],
        "misconceptions": [each.misconception for each in body.misconceptions],
        "practice": [each.task for each in body.practice],
    }
    for part, texts in lists.items():
        findings += [
            LessonFinding("duplicate", f"{text!r} stands twice in {part}", part)
            for text in _repeated(texts)
        ]
    return findings


def check_model_text(
    slot: LessonSlot, body: LessonBody, parts: Collection[str]
) -> list[LessonFinding]:
    """Return the failed checks of parts that a model wrote: empty, open or too long."""
    findings = [
        LessonFinding("missing", f"{part} is empty", part)
        for part in parts
        if part not in OPTIONAL_PARTS and not part_value(body, part)
    ]
    for place in find_open_places(body):
        part = place.field.split("/", 1)[0]
        if part in parts:
            message = f"{place.field} still asks for {place.asks!r}"
            findings.append(LessonFinding("open_place", message, part))
    read_words = 0
    last_part = ""
    for part, kind, text in _texts_with_limits(body):
        words = count_words(text)
        if kind in _READ_BY_LEARNERS:
            read_words += words
            last_part = part if part in parts else last_part
        if part not in parts:
            continue
        if words > _MAX_WORDS[kind]:
            message = f"a {kind} has {words} words; it may have {_MAX_WORDS[kind]}"
            findings.append(LessonFinding("too_long", message, part))
        longest = max(map(count_words, _SENTENCE_END.split(text)))
        if longest > MAX_SENTENCE_WORDS:
            message = (
                f"a sentence of a {kind} has {longest} words; it may have {MAX_SENTENCE_WORDS}"
            )
            findings.append(LessonFinding("too_long", message, part))
    limit = READING_WORDS_PER_MINUTE * slot.minutes
    if read_words > limit and last_part:
        message = f"learners have to read {read_words} words; {limit} fit {slot.minutes} minutes"
        findings.append(LessonFinding("too_long", message, last_part))
    return findings


def count_words(text: str) -> int:
    """Return the length of a text in words."""
    unspaced = len(_NO_SPACES.findall(text))
    return len(_WORD.findall(_NO_SPACES.sub(" ", text))) + unspaced // 2


def _check_question(
    question: ChoiceQuestion, part: str, known: Collection[str]
) -> Iterator[LessonFinding]:
    options = [_normalize(each) for each in question.distractors]
    if _normalize(question.answer) in options:
        message = f"the answer of {question.question!r} is among its distractors"
        yield LessonFinding("answer_is_distractor", message, part)
    if len(set(options)) < len(options):
        message = f"{question.question!r} has a distractor twice"
        yield LessonFinding("duplicate", message, part)
    if question.outcome_id is not None and question.outcome_id not in known:
        message = f"a question names the outcome {question.outcome_id!r}, which the lesson lacks"
        yield LessonFinding("invented_outcome", message, part)


def _texts_with_limits(body: LessonBody) -> Iterator[tuple[str, str, str]]:
    """Yield part, kind and text of everything that has a limit."""
    for point in body.key_points:
        yield "keyPoints", "key point", point
    for term in body.vocabulary:
        yield "vocabulary", "term", term.term
        yield "vocabulary", "definition", term.definition
    for error in body.misconceptions:
        yield "misconceptions", "misconception", error.misconception
        yield "misconceptions", "correction", error.correction
    if body.explanation is not None:
        yield "explanation", "spoken explanation", body.explanation.spoken
    for part in QUIZ_PARTS:
        for question in part_value(body, part):
            yield part, "question", question.question
            yield part, "answer", question.answer
            for distractor in question.distractors:
                yield part, "distractor", distractor
            if question.feedback is not None:
                yield part, "feedback on a question", question.feedback
    for task in body.practice:
        yield "practice", "practice task", task.task
        yield "practice", "feedback on a task", task.feedback
    if body.homework is not None:
        yield "homework", "homework", body.homework
    if body.differentiation is not None:
        for kind in ("support", "stretch", "accessibility"):
            yield "differentiation", kind, getattr(body.differentiation, kind)


def _repeated(texts: Sequence[str]) -> list[str]:
    seen: set[str] = set()
    repeated = []
    for text in texts:
        normal = _normalize(text)
        if normal in seen:
            repeated.append(text)
        seen.add(normal)
    return repeated


def _normalize(text: str) -> str:
    """Return text for comparison: without case, spaces and punctuation at its ends."""
    line = " ".join(text.casefold().split())
    return line.strip(_EDGE_MARKS) or line  # the answer may be a mark
