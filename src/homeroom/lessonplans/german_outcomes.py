"""Reader of German outcomes: finds the verbs of the main clause (pure).

The verb is the infinitive at the end, the finite verb after the subject, or a separable verb whose
prefix ends the clause.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
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
def _german_forms() -> Mapping[str, tuple[str, ...]]:
    """Return the verbs that each form may be; a separable verb is ``prefix|stem``."""
    table = load_verb_table("de")
    irregular = [pair.split("=") for pair in table.words["irregular"].split()]
    forms: dict[str, list[str]] = {}
    for verb in dict.fromkeys((*table.verbs, *table.objects)):
        prefix, _, base = verb.rpartition("|")
        stem = base[:-2] if base.endswith("en") else base[:-1]
        endings = [base, stem + "t", stem + "et", stem + "e"]
        endings += [form for form, infinitive in irregular if infinitive == base]
        if prefix:
            for form in (prefix + base, f"{prefix}zu{base}"):
                forms.setdefault(form, []).append(verb)
        for form in endings:
            forms.setdefault(form, []).append(verb)
    return {form: tuple(dict.fromkeys(verbs)) for form, verbs in forms.items()}


def read_german(line: str, table: VerbTable) -> OutcomeReading:
    """Return the reading of a German outcome in one line."""
    words = _main_clause_words(line, table)
    lowered = {word.lower() for word in words}
    readings = list(_german_readings(words, lowered, line, table))
    if readings:
        return highest_reading(readings)
    # A noun such as "das Bedienen einer Maschine".
    nominal = [word.lower() for word in words if word[0].isupper()]
    readings = list(_german_readings(nominal, lowered, line, table))
    if readings:
        return highest_reading(readings[:1])
    noun = read_noun(" ".join(words[:6]).lower(), table)
    return noun or assumed_reading(BloomLevel.UNDERSTAND)


def _german_readings(
    words: Sequence[str], present: set[str], line: str, table: VerbTable
) -> Iterator[OutcomeReading]:
    helpers = set(table.words["helpers"].split())
    forms = _german_forms()
    for position, word in enumerate(words):
        form = word.lower()
        if form in helpers and not (form.startswith("lern") and "auswendig" in present):
            if form not in {"sind", "ist", "haben", "hat", "sein"}:
                continue
            form = "haben" if form in {"haben", "hat"} else "sein"
            reading = table.lookup(form, line)
            if reading is not None:
                yield reading
            continue
        if word[0].isupper() and position > 0:
            continue
        reading = _german_reading(form, forms.get(form, ()), present, line, table)
        if reading is not None:
            yield reading


def _german_reading(
    form: str, verbs: Sequence[str], present: set[str], line: str, table: VerbTable
) -> OutcomeReading | None:
    """Return the reading of a form; a separable verb needs its prefix."""
    whole = [
        verb
        for verb in verbs
        if verb.replace("|", "") == form
        or ("zu" in form and "|" in verb and form.replace("zu", "", 1) == verb.replace("|", ""))
    ]
    separated = [verb for verb in verbs if "|" in verb and verb.split("|")[0] in present]
    plain = [verb for verb in verbs if "|" not in verb]
    for verb in (*whole, *separated, *plain):
        reading = table.lookup(verb, line)
        if reading is not None:
            name = verb.replace("|", "")
            return replace(
                reading, verb=name, verbs=(name,), evidence=reading.evidence.replace("|", "")
            )
    return None


def _main_clause_words(line: str, table: VerbTable) -> list[str]:
    """Return the words outside clauses that a comma and a subordinating word begin."""
    subordinators = set(table.words["subordinators"].split())
    kept: list[str] = []
    is_main = True
    tokens = WORD_PATTERN.findall(line)
    for position, token in enumerate(tokens):
        if token in {",", ";", ".", ":"}:
            following = tokens[position + 1].lower() if position + 1 < len(tokens) else ""
            is_main = following not in subordinators
        elif token in {"und"} and not is_main:
            pass
        elif is_main and token[0].isalpha():
            kept.append(token)
    return kept
