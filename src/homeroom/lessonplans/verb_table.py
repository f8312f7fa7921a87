"""Verb tables of learning outcomes, and the readings that they give (pure).

The tables are in ``language/verbs.*.toml``. Published verb lists disagree, so every reading names
the words that it rests on, and an author's declared level or domain replaces it.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib import resources
from typing import Literal

from homeroom.lessonplans.bloom import BloomLevel, OutcomeDomain

OutcomeLanguage = Literal["en", "de"]
ReadingBasis = Literal["verb", "object", "noun", "assumed"]
"""What a reading rests on: the verb, the verb with its object, a noun, or nothing known."""
WORD_PATTERN = re.compile(r"[^\W\d_]+(?:['\u2019-][^\W\d_]+)*|\d+|[,;:.!?()/&+]")


@dataclass(frozen=True, slots=True)
class OutcomeReading:
    """The level and domain that the text of an outcome implies."""

    level: BloomLevel
    domain: OutcomeDomain
    basis: ReadingBasis
    verb: str | None
    """The verb in its base form; None if no known verb was found."""
    verbs: tuple[str, ...] = ()
    """All coordinated verbs, in their order; ``verb`` is the one of the highest level."""
    evidence: str = ""
    """The words of the text that decided."""


@dataclass(frozen=True, slots=True)
class _ObjectRule:
    pattern: re.Pattern[str]
    level: BloomLevel
    domain: OutcomeDomain


@dataclass(frozen=True, slots=True)
class VerbTable:
    """The verbs, object rules and nouns of one language."""

    verbs: Mapping[str, tuple[BloomLevel, OutcomeDomain]]
    objects: Mapping[str, Sequence[_ObjectRule]]
    nouns: Sequence[_ObjectRule]
    words: Mapping[str, str]

    def lookup(self, verb: str, rest: str) -> OutcomeReading | None:
        """Return the reading of a verb with the words that the object rules search."""
        for rule in self.objects.get(verb, ()):
            found = rule.pattern.search(rest)
            if found is not None:
                evidence = f"{verb} … {found[0].split(' ')[-1]}" if found[0].strip() else verb
                return OutcomeReading(rule.level, rule.domain, "object", verb, (verb,), evidence)
        entry = self.verbs.get(verb)
        return entry and OutcomeReading(*entry, "verb", verb, (verb,), verb)

    def knows(self, verb: str) -> bool:
        """Return whether the table has the verb."""
        return verb in self.verbs or verb in self.objects


@cache
def load_verb_table(language: OutcomeLanguage) -> VerbTable:
    """Return the table of a language, read once from its file."""
    path = resources.files("homeroom.lessonplans.language") / f"verbs.{language}.toml"
    data = tomllib.loads(path.read_text(encoding="utf-8"))
    verbs: dict[str, tuple[BloomLevel, OutcomeDomain]] = {}
    for domain, levels in data["verbs"].items():
        for level, words in levels.items():
            for verb in words.split():
                verbs.setdefault(verb, (BloomLevel(level), OutcomeDomain(domain)))
    anchor = "^" if language == "en" else ""  # German objects precede the verb
    objects: dict[str, list[_ObjectRule]] = {}
    for each in data["objects"]:
        flags = re.IGNORECASE if language == "de" else 0
        rule = _ObjectRule(
            re.compile(f"{anchor}(?:{each['object']})", flags),
            BloomLevel(each["level"]),
            OutcomeDomain(each["domain"]),
        )
        for verb in each["verbs"].split():
            objects.setdefault(verb, []).append(rule)
    nouns = [
        _ObjectRule(re.compile(rf"\b(?:{words})\b"), BloomLevel(level), OutcomeDomain(domain))
        for words, (domain, level) in data["nouns"].items()
    ]
    return VerbTable(verbs, objects, nouns, data["words"])


def highest_reading(readings: Sequence[OutcomeReading]) -> OutcomeReading:
    """Return the first reading of the highest level, with the verbs of all."""
    best = max(readings, key=lambda reading: reading.level.rank)
    verbs = tuple(reading.verb for reading in readings if reading.verb is not None)
    return replace(best, verbs=verbs)


def assumed_reading(level: BloomLevel) -> OutcomeReading:
    """Return the reading of a text without a known word."""
    return OutcomeReading(level, OutcomeDomain.COGNITIVE, "assumed", None)


def read_noun(words: str, table: VerbTable) -> OutcomeReading | None:
    """Return the reading of the first known noun, such as "knowledge"."""
    hits = [
        (found.start(), rule, found[0])
        for rule in table.nouns
        if (found := rule.pattern.search(words))
    ]
    if not hits:
        return None
    _, rule, noun = min(hits, key=lambda hit: hit[0])
    return OutcomeReading(rule.level, rule.domain, "noun", None, (), noun)
