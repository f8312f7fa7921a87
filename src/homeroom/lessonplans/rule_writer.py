"""The rule-based writer of one lesson, in the author's words (pure).

Nothing about the subject is invented: where content is needed, the text holds an open place. The
same slot yields the same lesson.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from homeroom.lessonplans.activity_patterns import (
    PatternChooser,
    load_patterns,
    teaching_place,
)
from homeroom.lessonplans.bloom import BloomLevel, OutcomeDomain
from homeroom.lessonplans.curriculum import (
    Curriculum,
    TeachingPreferences,
    one_line,
)
from homeroom.lessonplans.lesson import (
    MAX_ITEMS,
    ActivityPhase,
    Differentiation,
    LessonActivity,
    LessonAssessment,
    LessonBody,
    QuizBlueprintRow,
    RubricRow,
)
from homeroom.lessonplans.lesson_allocation import LessonSlot, PlacedOutcome
from homeroom.lessonplans.lesson_sequence import LessonStage, lesson_phases, phase_weights
from homeroom.lessonplans.lesson_time import STEP_MINUTES, split_by_largest_remainder
from homeroom.lessonplans.open_places import close_author_marks
from homeroom.lessonplans.outcome_reading import read_outcome, without_end_marks
from homeroom.lessonplans.wording import Wording, load_wording, wording_language

_MAX_QUOTED_OUTCOMES, _MAX_EXPLAINED_OUTCOMES = 3, 10
_RUBRIC_STEPS = ("not_yet", "partly", "secure", "beyond")
_QUIZ_QUESTIONS = 5
_LESSON_PHASES: dict[str, ActivityPhase] = {
    "retrieve": "intro", "probe": "intro", "brief": "intro", "teach": "teach",
    "guided": "practice", "independent": "practice", "transfer": "practice",
    "review": "practice", "field": "practice", "assess": "check", "check": "check",
    "exit": "close", "debrief": "close",
}  # fmt: skip
_COORDINATION = r"(?:,\s*|\s+)(?:(?:and|then|und)\s+)*"


def write_lesson_by_rules(slot: LessonSlot, curriculum: Curriculum) -> LessonBody:
    """Return the rule-based lesson for a slot."""
    return _LessonWriter(slot, curriculum).lesson()


class _LessonWriter:
    """Writes one lesson."""

    def __init__(self, slot: LessonSlot, curriculum: Curriculum) -> None:
        """Use a slot of a curriculum's plan."""
        self.slot = slot
        self.preferences: TeachingPreferences = curriculum.preferences
        self.place = teaching_place(self.preferences.delivery_mode)
        self.wording: Wording = load_wording(wording_language(curriculum))
        self.leading = slot.leading

    def lesson(self) -> LessonBody:
        """Return the whole lesson."""
        slot, lesson = self.slot, self.wording.lesson
        level = self.leading.level
        higher = list(BloomLevel)[min(level.rank, len(BloomLevel) - 1)]
        turn = slot.index + slot.module_index
        return LessonBody(
            title=slot.title,
            prior_knowledge=self._prior_knowledge(),
            key_points=self._key_points(),
            materials=self._materials(),
            activities=self._activities(),
            assessments=list(self._assessments()),
            differentiation=Differentiation(
                support=_choose(lesson["support"], turn),
                stretch=_choose(lesson["stretch"], turn * 3 + slot.module_index).format(
                    level=self.wording.levels[higher]
                ),
                accessibility=_choose(lesson["accessibility"], turn * 5 + slot.part),
            ),
            homework=self._homework(turn),
            notes=self._notes(),
        )

    def quote(self, text: str) -> str:
        """Return an author's text as a quotation in one line."""
        line = close_author_marks(one_line(text))
        return f"„{line}“" if self.wording.language == "de" else f'"{line}"'

    def _quote_outcomes(self) -> str:
        """Quote the leading outcomes in the author's words and count the others."""
        outcomes = self.slot.outcomes
        if self.slot.stage is LessonStage.WHOLE or len(outcomes) <= _MAX_QUOTED_OUTCOMES:
            chosen: Sequence[PlacedOutcome] = outcomes[:_MAX_QUOTED_OUTCOMES]
        else:
            start = self.slot.index % len(outcomes)
            chosen = [*outcomes[start:], *outcomes[:start]][:_MAX_QUOTED_OUTCOMES]
        quoted = "; ".join(self.quote(outcome.text) for outcome in chosen)
        more = len(outcomes) - len(chosen)
        if more <= 0:
            return quoted
        return f"{quoted} {self.wording.lesson['more_outcomes'].format(count=more)}"

    def _quote_earlier(self) -> str:
        retrieved = [f"{self.quote(each.text)} ({each.lesson})" for each in self.slot.retrieves]
        return "; ".join(retrieved) or self._quote_outcomes()

    def _prior_knowledge(self) -> list[str]:
        lesson = self.wording.lesson
        if not self.slot.retrieves:
            return [lesson["prior_first"]]
        today = {outcome.id for outcome in self.slot.outcomes}
        return [
            lesson["prior_same"].format(number=each.lesson)
            if each.id in today
            else lesson["prior_other"].format(number=each.lesson, outcome=self.quote(each.text))
            for each in self.slot.retrieves
        ]

    def _key_points(self) -> list[str]:
        points = [close_author_marks(one_line(outcome.text)) for outcome in self.slot.outcomes]
        criteria = [
            self.wording.lesson["criteria_point"].format(
                criterion=close_author_marks(one_line(criterion))
            )
            for outcome in self.slot.outcomes
            for criterion in outcome.criteria
        ]
        return [*points, *criteria][:MAX_ITEMS]

    def _materials(self) -> list[str]:
        lesson, preferences = self.wording.lesson, self.preferences
        room = [] if preferences.room is None else [one_line(preferences.room)]
        return [
            *(lesson["material_room"].format(room=close_author_marks(each)) for each in room),
            *(close_author_marks(one_line(each)) for each in preferences.materials),
            lesson["material_items"],
        ]

    def _pattern_ids(self) -> tuple[str, ...]:
        """Return the slot's patterns; those of an old slot are chosen here."""
        if self.slot.patterns:
            return self.slot.patterns
        slot = self.slot
        phases = lesson_phases(slot.stage, slot.index, slot.minutes, can_retrieve=slot.part > 1)
        chooser = PatternChooser(slot.id, self.place, self.preferences.group_size)
        return chooser.choose(phases, self.leading.domain, self.leading.level)

    def _activities(self) -> list[LessonActivity]:
        ids = self._pattern_ids()
        patterns = [load_patterns()[id] for id in ids]
        minutes = _activity_minutes(self.slot.minutes, [each.phase for each in patterns])
        values = {"outcome": self._quote_outcomes(), "earlier": self._quote_earlier()}
        activities = []
        for position, (pattern, length) in enumerate(zip(patterns, minutes, strict=True)):
            title, method, facilitator_does, learners_do = self.wording.activities[pattern.id]
            notes = self._place_notes(pattern.team, is_first=position == 0)
            activities.append(
                LessonActivity(
                    phase=_LESSON_PHASES[pattern.phase],
                    title=title,
                    minutes=length,
                    method=method,
                    facilitator_does=" ".join([facilitator_does.format(**values), *notes]),
                    learners_do=learners_do.format(**values),
                )
            )
        return activities

    def _place_notes(self, team: int, *, is_first: bool) -> Iterator[str]:
        lesson, people = self.wording.lesson, self.preferences.group_size
        if team > 1 and people is not None and people > team:
            teams = -(-people // team)
            yield lesson["team_size"].format(people=people, teams=teams, size=team)
        if self.place == "o" and team > 1:
            yield lesson["online_teams"]
        elif self.place == "o" and is_first:
            yield lesson["online_solo"]
        elif self.place == "w" and is_first:
            yield lesson["workplace"]

    def _assessments(self) -> Iterator[LessonAssessment]:
        checking = [
            self.wording.activities[id]
            for id in self._pattern_ids()
            if load_patterns()[id].phase in {"check", "exit", "assess", "debrief"}
        ]
        for position, outcome in enumerate(self.slot.outcomes):
            quoted = self.quote(outcome.text)
            title, method, _, learners_do = checking[position % len(checking)]
            yield LessonAssessment(
                outcome_id=outcome.id,
                kind="formative",
                bloom_level=outcome.level,
                method=method,
                text=f"{title}: {learners_do} ({quoted})",
            )
            if outcome.id in self.slot.assesses:
                yield self._summative(outcome, quoted, position)

    def _summative(self, outcome: PlacedOutcome, quoted: str, position: int) -> LessonAssessment:
        is_knowledge = outcome.domain is OutcomeDomain.COGNITIVE
        key = outcome.level.value if is_knowledge else outcome.domain.value
        parts = outcome.criteria or _outcome_parts(outcome, self.wording)
        parts = tuple(close_author_marks(one_line(part)) for part in parts)
        asks_memory = is_knowledge and outcome.level.rank <= BloomLevel.UNDERSTAND.rank
        rubric = self.wording.rubric
        extra: tuple[str, ...]
        if not is_knowledge:
            extra = (
                ("safety", "result", "tidy")
                if outcome.domain is OutcomeDomain.PSYCHOMOTOR
                else ("example", "others")
            )
        else:
            extra = ("reasons", "revised") if outcome.level.rank >= 5 else ("accuracy",)
        return LessonAssessment(
            outcome_id=outcome.id,
            kind="summative",
            bloom_level=outcome.level,
            method=self.wording.assessment_methods[key],
            text=_choose(self.wording.summative[key], self.slot.index + position).format(
                outcome=quoted
            ),
            rubric=[]
            if asks_memory or not is_knowledge
            else [
                RubricRow(criterion=criterion, steps=[rubric[step] for step in _RUBRIC_STEPS])
                for criterion in (*parts, *(rubric[name] for name in extra))
            ],
            checklist=[] if is_knowledge else [*parts, *(rubric[name] for name in extra)],
            blueprint=self._blueprint(outcome, parts) if asks_memory else [],
        )

    def _blueprint(self, outcome: PlacedOutcome, parts: Sequence[str]) -> list[QuizBlueprintRow]:
        """Return a blueprint: recall questions first, most at the outcome's own level."""
        rows = []
        for part in parts:
            recall = 2 if outcome.level is BloomLevel.UNDERSTAND else 0
            levels = [(BloomLevel.REMEMBER, recall), (outcome.level, _QUIZ_QUESTIONS - recall)]
            rows += [
                QuizBlueprintRow(topic=part, bloom_level=level, questions=count)
                for level, count in levels
                if count
            ]
        return rows[:MAX_ITEMS]

    def _homework(self, turn: int) -> str:
        lesson = self.wording.lesson
        if self.slot.stage in {LessonStage.REVIEW, LessonStage.ASSESSMENT}:
            text: str = lesson["homework_review"]
            return text
        return _choose(lesson["homework"], turn * 3 + self.slot.part).format(
            outcome=self._quote_outcomes()
        )

    def _notes(self) -> str:
        lesson, slot = self.wording.lesson, self.slot
        mode = close_author_marks(one_line(self.preferences.delivery_mode))
        return " ".join(
            [
                lesson["delivery"].format(mode=mode),
                lesson["stage_note"].format(stage=self.wording.stages[slot.stage]),
                _reading_note(slot.outcomes, self.wording),
            ]
        )


def _choose(texts: Sequence[str], turn: int) -> str:
    return texts[turn % len(texts)]


def _activity_minutes(total: int, phases: Sequence[str]) -> list[int]:
    """Divide minutes in steps of five; the rest goes to the longest activity."""
    step = STEP_MINUTES if total >= STEP_MINUTES * len(phases) else 1
    units, rest = divmod(total, step)
    weights = phase_weights(phases)
    # Each activity gets one step first: none may be empty.
    extra = split_by_largest_remainder(units - len(phases), weights)
    minutes = [step * (1 + each) for each in extra]
    minutes[minutes.index(max(minutes))] += rest
    return minutes


def _outcome_parts(outcome: PlacedOutcome, wording: Wording) -> tuple[str, ...]:
    """Split an outcome at its verbs: "design and test a form" has two parts."""
    text = without_end_marks(one_line(outcome.text), ".;: ")
    verbs = read_outcome(outcome.text, wording.language).verbs
    if len(verbs) < 2 or wording.language == "de":
        return (text,)
    starts = "|".join(re.escape(verb) for verb in verbs[1:])
    parts = re.split(rf"{_COORDINATION}(?=(?:{starts})\b)", text, flags=re.IGNORECASE)
    rest = parts[-1].split(" ", 1)[-1]
    return tuple(
        part if " " in part or at == len(parts) - 1 else f"{part} {rest}"
        for at, part in enumerate(parts)
    )


def _reading_note(outcomes: Sequence[PlacedOutcome], wording: Wording) -> str:
    """Return the source of each level and domain."""
    lesson = wording.lesson
    if len(outcomes) > _MAX_EXPLAINED_OUTCOMES:
        text: str = lesson["read_many"].format(
            count=len(outcomes),
            declared=sum(outcome.declared for outcome in outcomes),
            assumed=sum(not each.declared and each.basis == "assumed" for each in outcomes),
        )
        return text
    return "; ".join(explain_reading(outcome, wording) for outcome in outcomes) + "."


def explain_reading(outcome: PlacedOutcome, wording: Wording) -> str:
    """Return a sentence on where an outcome's level and domain come from."""
    if outcome.declared and outcome.domain_declared:
        key = "read_declared"
    elif outcome.declared and outcome.evidence:
        key = "read_level_declared"
    elif outcome.declared:
        key = "read_declared"
    elif outcome.domain_declared and outcome.evidence:
        key = "read_domain_declared"
    else:
        key = f"read_{outcome.basis}"
    text: str = wording.lesson[key].format(
        id=close_author_marks(one_line(outcome.id)),
        level=wording.levels[outcome.level],
        domain=wording.domains[outcome.domain],
        evidence=close_author_marks(outcome.evidence or outcome.verb or ""),
    )
    return text
