"""The language that the texts of a curriculum look like (pure).

It is only asked for curricula that do not say their language: such a file in French would otherwise
be read as English, with a level for each outcome and none of them right.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping

_WORDS: Mapping[str, frozenset[str]] = {
    language: frozenset(words.split())
    for language, words in {
        "en": "the and of to with for from how what their its by that which are using between an",
        "de": "der das und mit für von zum zur den dem des eine einer einen ein im wie nach über",
        "fr": "le la les des du et une dans pour avec sur aux leur ses un au par",
        "es": "el los las una del con para por y sus la de",
        "pt": "os uma dos das com para seus da em um ao não",
        "it": "il gli della delle dei con una nel un di la le e",
        "nl": "het een van voor met op zijn en de bij",
        "sv": "och att för med är av till en ett",
        "da": "og at til med af er en et på",
        "pl": "oraz się dla na jest przez i w z",
    }.items()
}
"""Frequent words, some of them in several languages: the language with most of them wins."""
NAMES: Mapping[str, str] = {
    "de": "German", "fr": "French", "es": "Spanish", "pt": "Portuguese", "it": "Italian",
    "nl": "Dutch", "sv": "Swedish", "da": "Danish or Norwegian", "pl": "Polish",
}  # fmt: skip
_WORD = re.compile(r"[^\W\d_]+")
_LEAST_HITS = 4


def other_language(texts: Iterable[str]) -> str | None:
    """Return the language or script of texts that are clearly not English.

    None: they are English, or too few to tell.
    """
    words = [word.casefold() for text in texts for word in _WORD.findall(text)]
    letters = [letter for word in words for letter in word]
    foreign = [letter for letter in letters if not _is_latin(letter)]
    if 2 * len(foreign) > len(letters):
        return f"a language in {_script(foreign[0])} script"
    hits = {
        language: sum(word in frequent for word in words) for language, frequent in _WORDS.items()
    }
    best = max(hits, key=lambda language: hits[language])
    if best == "en" or hits[best] < _LEAST_HITS or hits[best] <= 2 * hits["en"]:
        return None
    return NAMES[best]


def _is_latin(letter: str) -> bool:
    return letter.isascii() or unicodedata.name(letter, "").startswith("LATIN")


def _script(letter: str) -> str:
    """Return the name of a letter's script, as its Unicode name begins."""
    return unicodedata.name(letter, "another").split(" ")[0].split("-")[0].capitalize()
