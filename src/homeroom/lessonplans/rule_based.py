"""Write a lesson from its outcomes' verbs, without any model: honest, instant, the same each time.

It promises structure, timing and alignment in the author's own words, and writes no subject matter:
where a person has to add it, the text says so. What is done and how it is assessed follows from
the level of the outcome's verb (pure).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from homeroom.lessonplans.bloom import Bloom
from homeroom.lessonplans.lesson import (
    Activity,
    Assessment,
    Differentiation,
    LessonBody,
    Phase,
)
from homeroom.lessonplans.skeleton import Placed, Slot, largest_remainder
from homeroom.lessonplans.text import one_line

_QUOTED, _EXPLAINED = 3, 10
_ORDER: tuple[Phase, ...] = ("intro", "teach", "practice", "check", "close")


@dataclass(frozen=True, slots=True)
class _Ways:
    """What a level asks for. ``weights`` are the shares of the five phases."""

    weights: tuple[int, int, int, int, int]
    teach: str
    teach_does: str
    practice: str
    practice_does: str
    check: str
    check_does: str
    assess: str
    assess_text: str


_WAYS: dict[Bloom, _Ways] = {
    Bloom.REMEMBER: _Ways(
        (10, 35, 30, 15, 10),
        "direct instruction",
        "Listen, note the essentials in their own words, and ask about what is unclear.",
        "retrieval practice",
        "Close their notes, write down what they recall, then compare with a neighbour.",
        "quick quiz",
        "Answer short questions alone, without notes.",
        "short-answer test",
        "Answer short questions without notes that ask for exactly this: {outcome}.",
    ),
    Bloom.UNDERSTAND: _Ways(
        (10, 35, 30, 15, 10),
        "guided explanation",
        "Follow the explanation, and restate each step to a neighbour.",
        "think, pair, share",
        "Explain it alone in writing, then to a partner, and settle where they differ.",
        "exit question",
        "Answer one question in two or three sentences of their own.",
        "explanation in own words",
        "Explain in own words, with an example of one's own, to show this: {outcome}.",
    ),
    Bloom.APPLY: _Ways(
        (10, 25, 40, 15, 10),
        "worked example",
        "Follow the worked example, and say before each step what comes next.",
        "guided practice",
        "Do it themselves on a task of the same kind, first in pairs, then alone.",
        "performance check",
        "Carry out one task alone while the facilitator observes.",
        "practical task",
        "Carry out a new task of the same kind alone, to show this: {outcome}.",
    ),
    Bloom.ANALYZE: _Ways(
        (10, 20, 45, 15, 10),
        "modelled analysis",
        "Follow how a case is taken apart, and name the parts and how they relate.",
        "case study in groups",
        "Take a case apart in groups, record parts and relations, and compare with others.",
        "one-page analysis",
        "Write down, for one case, the parts that matter and how they act on each other.",
        "case analysis",
        "Analyse a case that was not seen before, to show this: {outcome}.",
    ),
    Bloom.EVALUATE: _Ways(
        (10, 20, 40, 20, 10),
        "criteria and exemplars",
        "Judge two exemplars against given criteria, and defend the judgement.",
        "structured debate",
        "Take a position, support it by the criteria, and answer objections.",
        "peer review",
        "Review a partner's judgement against the criteria, and give one reason for each mark.",
        "reasoned judgement",
        "Judge a case against stated criteria and give reasons, to show this: {outcome}.",
    ),
    Bloom.CREATE: _Ways(
        (10, 15, 50, 15, 10),
        "brief and exemplars",
        "Read the brief, look at exemplars, and agree what a good result has to have.",
        "project work",
        "Plan, make and improve a result of their own, with feedback on the way.",
        "gallery walk",
        "Show the result, and note for two others what works and what would improve it.",
        "product with rubric",
        "Make a result of one's own that is marked by a rubric, to show this: {outcome}.",
    ),
}


def write(slot: Slot, module_title: str, delivery_mode: str) -> LessonBody:
    """Return the lesson of a slot; the same slot gives the same lesson."""
    leading = max(slot.outcomes, key=lambda outcome: outcome.level.rank)
    ways = _WAYS[leading.level]
    quoted = _quoted(slot.outcomes)
    return LessonBody(
        title=slot.title,
        prior_knowledge=_prior(slot, module_title),
        key_points=[one_line(outcome.text) for outcome in slot.outcomes],
        materials=["Facilitator: list the materials and rooms that this lesson needs."],
        activities=_activities(slot, ways, quoted),
        assessments=_assessments(slot),
        differentiation=Differentiation(
            support="Give a partly completed version of the task, and more time.",
            stretch=_stretch(leading),
            accessibility="Give instructions in writing and aloud; check with each learner who "
            "needs adjustments that they have them.",
        ),
        homework=_homework(slot, quoted),
        notes=f"Delivery: {one_line(delivery_mode)}. {_level_note(slot.outcomes)}",
    )


def _quoted(outcomes: Sequence[Placed]) -> str:
    """Name the outcomes in the author's words; of many, the first ones stand for all."""
    said = "; ".join(f'"{one_line(outcome.text)}"' for outcome in outcomes[:_QUOTED])
    more = len(outcomes) - _QUOTED
    return said if more <= 0 else f"{said}; and {more} more outcomes of this lesson"


def _prior(slot: Slot, module_title: str) -> list[str]:
    if slot.part > 1:
        return [f"What lesson {_before(slot)} practised on the same outcome."]
    return [f'Facilitator: name what learners of "{one_line(module_title)}" should know before.']


def _before(slot: Slot) -> str:
    module, lesson = slot.number.split(".")
    return f"{module}.{int(lesson) - 1}"


def _activities(slot: Slot, ways: _Ways, quoted: str) -> list[Activity]:
    """Return the five phases; a first part teaches more, a last one checks more."""
    weights = list(ways.weights)
    if slot.of > 1:
        shift = 10 if slot.part == 1 else -10 if slot.part == slot.of else 0
        weights[1] += shift
        weights[3] -= shift // 2
        weights[2] -= shift - shift // 2
    # one minute each comes first, so that no phase of a short lesson is left without time
    extra = largest_remainder(slot.minutes - len(_ORDER), weights)
    minutes = dict(zip(_ORDER, (1 + each for each in extra), strict=True))
    wordings: dict[Phase, tuple[str, str, str, str]] = {
        "intro": (
            "Where we are going",
            "question and answer",
            f"Say what learners will be able to do: {quoted}. Ask what they know of it already.",
            "Say what they know, and what they expect to find hard.",
        ),
        "teach": (
            "Something new",
            ways.teach,
            f"Teach towards {quoted}. Facilitator: add the content and one worked example.",
            ways.teach_does,
        ),
        "practice": (
            "Trying it out",
            ways.practice,
            f"Set the task, walk round, and give feedback. Facilitator: add the task for {quoted}.",
            ways.practice_does,
        ),
        "check": (
            "Who has got there",
            ways.check,
            f"See who has reached {quoted}, and note who needs another way in.",
            ways.check_does,
        ),
        "close": (
            "Looking back",
            "reflection",
            "Sum up with the learners, and say what comes next.",
            "Write down one thing learnt and one question that is still open.",
        ),
    }
    return [
        Activity(
            phase=phase,
            title=title,
            minutes=minutes[phase],
            method=method,
            facilitator_does=does,
            learners_do=learners,
        )
        for phase, (title, method, does, learners) in wordings.items()
    ]


def _assessments(slot: Slot) -> list[Assessment]:
    found = []
    for outcome in slot.outcomes:
        ways = _WAYS[outcome.level]
        text = one_line(outcome.text)
        found.append(
            Assessment(
                outcome_id=outcome.id,
                kind="formative",
                bloom_level=outcome.level,
                method=ways.check,
                text=f'During the lesson: {ways.check_does} Look for this: "{text}".',
            )
        )
        if outcome.id in slot.assesses:
            found.append(
                Assessment(
                    outcome_id=outcome.id,
                    kind="summative",
                    bloom_level=outcome.level,
                    method=ways.assess,
                    text=ways.assess_text.format(outcome=f'"{text}"'),
                )
            )
    return found


def _stretch(leading: Placed) -> str:
    ranks = list(Bloom)
    if leading.level is Bloom.CREATE:
        return "Ask for a second result under a tighter constraint."
    higher = ranks[leading.level.rank]  # the next one up: ranks count from 1
    return f"Offer a task of the next level up, {higher.value}, on the same outcome."


def _homework(slot: Slot, quoted: str) -> str:
    if slot.part < slot.of:
        return f"Note what is still unclear about {quoted}, for the next lesson to take up."
    return f"Collect one piece of evidence that shows this was reached: {quoted}."


def _level_note(outcomes: Sequence[Placed]) -> str:
    """Say where each level comes from: declared, read from a verb, or assumed."""
    if len(outcomes) > _EXPLAINED:
        declared = sum(outcome.declared for outcome in outcomes)
        assumed = sum(not each.declared and each.verb is None for each in outcomes)
        return (
            f"Bloom levels: {declared} declared, {len(outcomes) - declared - assumed} by their"
            f" verbs, {assumed} taken as understand because no known verb was found."
        )
    said = []
    for outcome in outcomes:
        if outcome.declared:
            said.append(f"{outcome.id} is declared as {outcome.level.value}")
        elif outcome.verb is not None:
            said.append(f'{outcome.id} is {outcome.level.value} by its verb "{outcome.verb}"')
        else:
            said.append(f"{outcome.id} is taken as {outcome.level.value}: no known verb was found")
    return "Bloom level: " + "; ".join(said) + "."
