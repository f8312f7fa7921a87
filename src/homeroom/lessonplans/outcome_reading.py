"""Reader of outcomes: level and domain from verb and object (pure)."""

from __future__ import annotations

import re

from homeroom.lessonplans.english_outcomes import read_english
from homeroom.lessonplans.german_outcomes import read_german
from homeroom.lessonplans.verb_table import OutcomeLanguage, OutcomeReading, load_verb_table

MAX_CHARACTERS_READ = 600
_LIST_MARK = re.compile(
    r"^\s*(?:[•*·\u2013-]+|\(?(?:\d+(?:\.\d+)*|[A-Za-z])[.):]|[A-Z]{1,4}-?\d[\w.]*:?)\s+"
)


def read_outcome(text: str, language: OutcomeLanguage = "en") -> OutcomeReading:
    """Return the level and domain that an outcome's text implies.

    Several verbs that are joined count by the highest level. Without a known verb a noun such as
    "knowledge" decides. Otherwise a sentence that begins like a request is taken as ``apply``, any
    other as ``understand``; ``verb`` is then None.
    """
    line = " ".join(_LIST_MARK.sub("", text[:MAX_CHARACTERS_READ]).split())
    reader = read_german if language == "de" else read_english
    return reader(line, load_verb_table(language))


def without_end_marks(text: str, marks: str) -> str:
    """Return text without some marks at its end; text of nothing but marks stays."""
    return text.rstrip(marks) or text
