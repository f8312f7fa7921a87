"""Reader of English outcomes: finds the main verb by its place (pure)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache

from homeroom.lessonplans.bloom import BloomLevel
from homeroom.lessonplans.verb_table import (
    WORD_PATTERN,
    OutcomeReading,
    VerbTable,
    assumed_reading,
    highest_reading,
    load_verb_table,
    read_noun,
)


@cache
def _opener_pattern() -> re.Pattern[str]:
    """Return the pattern of phrases that precede the verb, from the table of words."""
    words = load_verb_table("en").words
    parts = {
        name: "|".join(words[name].split())
        for name in ("subjects", "adverbs", "modals", "abilities", "having")
    }
    openers = [
        line.replace("~", " ").format_map(parts)
        for line in words["openers"].splitlines()
        if line.strip()
    ]
    return re.compile(f"^(?:{'|'.join(openers)})", re.IGNORECASE)


def _skip_english_openers(line: str, table: VerbTable) -> str:
    pattern = _opener_pattern()
    while line:
        first = line.split(" ", 1)[0].lower().strip(",.:;")
        if first.endswith("ly") and (table.knows(first)):  # "apply", "comply", "multiply"
            return line
        found = pattern.match(line)
        if found is None or not found[0]:
            return line
        line = line[found.end() :]
    return line


def read_english(line: str, table: VerbTable) -> OutcomeReading:
    """Return the reading of an English outcome in one line."""
    rest = _skip_english_openers(line, table)
    words = WORD_PATTERN.findall(rest.lower())
    if words and words[0] in table.words["prepositions"].split() and "," in rest:
        after = _skip_english_openers(rest.split(",", 1)[1].strip(), table)
        following = WORD_PATTERN.findall(after.lower())
        if following and _english_verb(following[0], table) is not None:
            words = following
    if not words:
        return assumed_reading(BloomLevel.UNDERSTAND)
    if _english_verb(words[0], table) is not None:
        return highest_reading(_english_readings(words, table))
    noun = read_noun(" ".join(_before_preposition(words)), table)
    if noun is not None:
        return noun
    noun_like = set(table.words["nouns_too"].split())
    for position, word in enumerate(words[1:8], start=1):
        verb = _english_verb(word, table)
        if verb is not None and verb[0] not in noun_like and verb[1] != "ing":
            return highest_reading(_english_readings(words[position:], table))
    is_request = len(words) > 1 and words[1] in table.words["determiners"].split()
    return assumed_reading(BloomLevel.APPLY if is_request else BloomLevel.UNDERSTAND)


def _before_preposition(words: Sequence[str]) -> list[str]:
    prepositions = {"of", "in", "for", "to", "about", "on", "with"}
    end = next((at for at, word in enumerate(words) if word in prepositions), min(len(words), 5))
    return list(words[:end])


def _english_readings(words: Sequence[str], table: VerbTable) -> list[OutcomeReading]:
    """Return the readings of the first verb and of those that are joined to it."""
    positions = _joined_positions(words, table)
    readings = []
    for position in positions:
        start = position + 1
        while start < len(words) and (
            start in positions or words[start] in _joiners(table) or words[start] == ","
        ):
            start += 1
        verb = _english_verb(words[position], table)
        if verb is not None:
            rest = " ".join(word for word in words[start:] if word[0].isalnum())
            for form in (verb[0], *_english_forms(words[position])):
                reading = table.lookup(form, rest)
                if reading is not None:
                    readings.append(reading)
                    break
    return readings or [assumed_reading(BloomLevel.UNDERSTAND)]


def _joiners(table: VerbTable) -> set[str]:
    return {*table.words["joiners"].split(), "/"}


def _joined_positions(words: Sequence[str], table: VerbTable) -> list[int]:
    first = _english_verb(words[0], table)
    inflection = first[1] if first is not None else "base"
    joiners, stops = _joiners(table), set(table.words["stops"].split())
    adverbs, determiners = (
        set(table.words["adverbs"].split()),
        set(table.words["determiners"].split()),
    )
    noun_like = set(table.words["nouns_too"].split())
    positions, is_open = [0], True
    for position in range(1, len(words)):
        word, previous = words[position], words[position - 1]
        if word in {",", ";", "."}:
            is_open = True
        elif word in stops and word not in {"to", "of", "in", "for", "on", "with"}:
            is_open = False
        verb = _english_verb(word, table)
        if verb is None or verb[1] != inflection or not is_open:
            continue
        start = position - 1
        while start > 0 and (
            words[start] in adverbs or words[start].endswith("ly") or words[start] == "to"
        ):
            start -= 1
        if words[start] not in joiners and words[start] not in {",", ";"}:
            continue
        following = words[position + 1] if position + 1 < len(words) else "."
        is_adjacent = start - 1 in positions  # "plan and design the lesson"
        if verb[0] in noun_like and following not in determiners:
            joined_before = is_adjacent and following not in {",", ".", "of"}
            if not joined_before or following in stops:
                continue
        if previous == "," and following in {",", "and", "or"} and not is_adjacent:
            continue  # a list of nouns
        positions.append(position)
    return positions


def _english_verb(word: str, table: VerbTable) -> tuple[str, str] | None:
    """Return a known verb's base form and inflection: base, s, ing or ed."""
    for form in _english_forms(word):
        if table.knows(form):
            kind = (
                "base"
                if form == word
                else next((end for end in ("ing", "ed", "s") if word.endswith(end)), "base")
            )
            return form, kind
    return None


def _english_forms(word: str) -> list[str]:
    """Return the possible base forms: explains, applied, planned, re-design."""
    forms = [word]
    for prefix in ("re-", "co-", "pre-", "self-"):
        if word.startswith(prefix):
            forms.append(word[len(prefix) :])
    if word.endswith(("ies", "ied")):
        forms.append(word[:-3] + "y")
    if word.endswith("s") and not word.endswith("ss"):
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
