"""Bloom's revised taxonomy: six levels, and which one an outcome's verb speaks of (pure).

Published verb lists agree little with each other, so this one is short and each verb has one level:
a plan says whether a level was declared by the author or read from the verb.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum


class Bloom(StrEnum):
    """The six levels (Anderson and Krathwohl, 2001), from the lowest to the highest."""

    REMEMBER = "remember"
    UNDERSTAND = "understand"
    APPLY = "apply"
    ANALYZE = "analyze"
    EVALUATE = "evaluate"
    CREATE = "create"

    @property
    def rank(self) -> int:
        """Return 1 for the lowest level to 6 for the highest."""
        return _RANKS[self]


_RANKS = {level: rank for rank, level in enumerate(Bloom, start=1)}
_VERBS = {
    Bloom.REMEMBER: (
        "define cite label list locate match memorise memorize name quote recall recite "
        "recognise recognize record repeat retrieve state"
    ),
    Bloom.UNDERSTAND: (
        "describe clarify convert discuss exemplify explain express generalise generalize "
        "identify illustrate infer interpret outline paraphrase report restate summarise "
        "summarize translate understand"
    ),
    Bloom.APPLY: (
        "apply calculate carry compute demonstrate employ execute implement install measure "
        "operate perform practise practice prepare schedule sketch solve use"
    ),
    Bloom.ANALYZE: (
        "analyse analyze attribute categorise categorize classify compare contrast debug "
        "deconstruct diagnose differentiate discriminate distinguish examine inspect "
        "investigate organise organize relate trace"
    ),
    Bloom.EVALUATE: (
        "evaluate appraise argue assess audit choose conclude critique decide defend judge "
        "justify prioritise prioritize rank rate recommend review select validate verify"
    ),
    Bloom.CREATE: (
        "create assemble author build combine compile compose construct design develop devise "
        "draft engineer formulate generate invent model plan produce program propose "
        "prototype synthesise synthesize write"
    ),
}
VERBS: dict[Bloom, tuple[str, ...]] = {
    level: tuple(words.split()) for level, words in _VERBS.items()
}
_LEVELS = {verb: level for level, verbs in VERBS.items() for verb in verbs}
_WORD = re.compile(r"[^\W\d_]+")
_LOOKED_AT = 10
"""The verb stands near the beginning: "By the end, learners will be able to ..."."""
_OPENERS = frozenset({"learner", "learners", "student", "students", "participant", "participants"})


@dataclass(frozen=True, slots=True)
class Reading:
    """What an outcome's text says of its level."""

    level: Bloom
    verb: str | None
    """The verb in its table form; None where no known verb was found."""


def read(text: str) -> Reading:
    """Return the level that the first known verb of an outcome speaks of.

    Without one the level is ``understand``, and ``verb`` None says that nothing was found.
    """
    for word in _WORD.findall(text.lower())[:_LOOKED_AT]:
        if word in _OPENERS:
            continue
        for form in _forms(word):
            if form in _LEVELS:
                return Reading(_LEVELS[form], form)
    return Reading(Bloom.UNDERSTAND, None)


def _forms(word: str) -> list[str]:
    """Return what a word may be a form of: explains, explaining, explained, applies, planned."""
    forms = [word]
    if word.endswith(("ies", "ied")):
        forms.append(word[:-3] + "y")
    if word.endswith("s"):
        forms.append(word[:-1])
    if word.endswith("es"):
        forms.append(word[:-2])
    for ending in ("ed", "ing"):
        if word.endswith(ending) and len(word) > len(ending) + 2:
            stem = word[: -len(ending)]
            forms += [stem, stem + "e"]
            if stem[-1] == stem[-2]:
                forms.append(stem[:-1])
    return forms
