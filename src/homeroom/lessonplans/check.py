"""Say what is wrong with a lesson, or a whole plan, whoever wrote it (pure)."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from homeroom.lessonplans.curriculum import Curriculum
from homeroom.lessonplans.lesson import LessonBody
from homeroom.lessonplans.skeleton import Slot

_URL = re.compile(
    r"(?:https?://|www\.)[^\s<>\"'()\[\]{}]+|\b[a-z0-9-]+(?:\.[a-z0-9-]+)*\.(?:com|org|net|edu|gov|io)"
    r"(?:/[^\s<>\"'()\[\]{}]*)?",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Finding:
    """What is wrong: a stable code for programs, a sentence for people and for the model."""

    code: str
    message: str


def links(texts: Collection[str]) -> set[str]:
    """Return the web addresses in texts, without what a sentence adds at their ends."""
    return {
        found.rstrip(".,;:!?").removeprefix("https://").removeprefix("http://").rstrip("/").lower()
        for text in texts
        for found in _URL.findall(text)
    }


def links_of(curriculum: Curriculum) -> set[str]:
    """Return the web addresses that the author gave: no lesson may hold another."""
    texts = [curriculum.title, curriculum.preferences.delivery_mode]
    for module in curriculum.modules:
        texts += [module.id, module.title, module.notes or ""]
        texts += [text for outcome in module.outcomes for text in (outcome.id, outcome.text)]
    return links(texts)


def check_lesson(
    slot: Slot, body: LessonBody, *, titles: Collection[str], allowed_links: Collection[str]
) -> list[Finding]:
    """Return what is wrong with a lesson; ``titles`` are those of the plan's other lessons."""
    found = []
    total = sum(activity.minutes for activity in body.activities)
    if total != slot.minutes:
        found.append(
            Finding(
                "minutes",
                f"the activities take {total} minutes; the lesson has {slot.minutes}",
            )
        )
    if body.title.casefold() in {title.casefold() for title in titles}:
        found.append(
            Finding("title_taken", f"another lesson of the plan has the title {body.title!r}")
        )
    found += _check_assessments(slot, body)
    for link in sorted(links(body.texts()) - set(allowed_links)):
        found.append(Finding("invented_link", f"the address {link} is not in the curriculum"))
    return found


def _check_assessments(slot: Slot, body: LessonBody) -> list[Finding]:
    found = []
    outcomes = {outcome.id: outcome for outcome in slot.outcomes}
    for assessment in body.assessments:
        outcome = outcomes.get(assessment.outcome_id)
        if outcome is None:
            found.append(
                Finding(
                    "invented_outcome",
                    f"an assessment names the outcome {assessment.outcome_id!r}; this lesson has "
                    + ", ".join(repr(id) for id in outcomes),
                )
            )
        elif assessment.bloom_level.rank > outcome.level.rank:
            found.append(
                Finding(
                    "bloom_level",
                    f"an assessment of {outcome.id!r} asks for the level {assessment.bloom_level},"
                    f" above the outcome's {outcome.level}",
                )
            )
    assessed = {assessment.outcome_id for assessment in body.assessments}
    found += [
        Finding("not_assessed", f"no assessment names the outcome {id!r}")
        for id in slot.assesses
        if id not in assessed
    ]
    return found


def check_plan(curriculum: Curriculum, lessons: Sequence[tuple[Slot, LessonBody]]) -> list[Finding]:
    """Return what is wrong with a whole plan, every lesson of it included."""
    found: list[Finding] = []
    allowed = links_of(curriculum)
    titles = [body.title for _, body in lessons]
    for position, (slot, body) in enumerate(lessons):
        others = titles[:position]
        for each in check_lesson(slot, body, titles=others, allowed_links=allowed):
            found.append(Finding(each.code, f"lesson {slot.number}: {each.message}"))
    for index, module in enumerate(curriculum.modules):
        within = [(slot, body) for slot, body in lessons if slot.module_index == index]
        minutes = sum(slot.minutes for slot, _ in within)
        if minutes != module.minutes:
            found.append(
                Finding(
                    "contact_time",
                    f"module {module.id!r} has {module.minutes} minutes; its lessons {minutes}",
                )
            )
        known = {outcome.id for outcome in module.outcomes}
        taught = {outcome.id for slot, _ in within for outcome in slot.outcomes}
        assessed = {each.outcome_id for _, body in within for each in body.assessments}
        for id in sorted(known - taught):
            found.append(Finding("not_taught", f"no lesson teaches the outcome {id!r}"))
        for id in sorted(known - assessed):
            found.append(Finding("not_assessed", f"nothing assesses the outcome {id!r}"))
        for id in sorted((taught | assessed) - known):
            found.append(Finding("invented_outcome", f"module {module.id!r} has no {id!r}"))
    return found
