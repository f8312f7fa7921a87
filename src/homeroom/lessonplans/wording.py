"""The fixed wording of lessons and exports, in English and German (pure)."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

from homeroom.lessonplans.curriculum import Curriculum
from homeroom.lessonplans.verb_table import OutcomeLanguage


@dataclass(frozen=True, slots=True)
class Wording:
    """The wording of one language, as in ``language/wording.*.toml``."""

    language: OutcomeLanguage
    activities: Mapping[str, Sequence[str]]
    """Pattern id to title, method, what the facilitator does, what learners do."""
    assessment_methods: Mapping[str, str]
    summative: Mapping[str, Sequence[str]]
    rubric: Mapping[str, str]
    lesson: Mapping[str, Any]
    stages: Mapping[str, str]
    titles: Mapping[str, str]
    levels: Mapping[str, str]
    domains: Mapping[str, str]
    labels: Mapping[str, str]


@cache
def load_wording(language: OutcomeLanguage) -> Wording:
    """Return the wording of a language, read once from its file."""
    path = resources.files("homeroom.lessonplans.language") / f"wording.{language}.toml"
    return Wording(language, **tomllib.loads(path.read_text(encoding="utf-8")))


def known_language(curriculum: Curriculum) -> OutcomeLanguage | None:
    """Return the language of the fixed wording; None if it is not known."""
    if curriculum.preferences.wording is not None:
        return curriculum.preferences.wording
    primary = curriculum.locale.split("-")[0].lower()
    return "de" if primary == "de" else "en" if primary == "en" else None


def wording_language(curriculum: Curriculum) -> OutcomeLanguage:
    """Return the language of the fixed wording, by default English."""
    return known_language(curriculum) or "en"
