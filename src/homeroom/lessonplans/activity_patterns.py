"""Activity patterns: their table, and the choice for a plan's lessons (pure).

A pattern is a way to spend one phase of a lesson, such as a worked example. The table is in
``language/activities.txt``, the wording in ``language/wording.*.toml``.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from typing import Literal

from homeroom.lessonplans.bloom import BloomLevel, OutcomeDomain

TeachingPlace = Literal["r", "o", "w"]
"""A room, online, or the workplace."""
_ONLINE = re.compile(
    r"\b(?:online|remote(?:ly)?|virtual(?:ly)?|distance|webinar|zoom|e-?learning|self-?paced|digital|"
    r"fernunterricht|fernlehre|distanz\w*|selbstlern\w*)\b"
)
_MIXED = re.compile(r"\b(?:blended|hybrid|classroom|room|präsenz|raum|klassenzimmer)\b")
_WORKPLACE = re.compile(
    r"\b(?:work-?place|work ?based|on[ -]the[ -]job|on[ -]site|apprenticeship|am arbeitsplatz|"
    r"im betrieb|betrieblich\w*|baustelle)\b"
)
_SUBSTITUTES: Mapping[str, tuple[str, ...]] = {
    "guided": ("independent", "transfer"),
    "independent": ("transfer", "guided"),
    "transfer": ("independent",),
    "teach": ("guided",),
    "check": ("independent",),
    "review": ("independent",),
    "field": ("transfer", "independent"),
}
"""Phases whose patterns fill in where a small group leaves a phase none that was not just used."""
_SEQUENCE_DISTANCE = 3
"""Two lessons of the same phases differ in at least this many patterns, where the table allows."""


@dataclass(frozen=True, slots=True)
class ActivityPattern:
    """A way to spend one phase of a lesson."""

    id: str
    phase: str
    domain: OutcomeDomain | None
    """None: for outcomes of every domain."""
    ranks: range
    team: int
    least: int
    """The smallest group that it works with."""
    places: str


@cache
def load_patterns() -> Mapping[str, ActivityPattern]:
    """Return all patterns by id, read once from the table."""
    text = (resources.files("homeroom.lessonplans.language") / "activities.txt").read_text("utf-8")
    patterns = {}
    for line in text.splitlines():
        if line and not line.startswith("#"):
            id, phase, domain, ranks, team, least, places = line.split()
            first, last = ranks.split("-")
            patterns[id] = ActivityPattern(
                id,
                phase,
                None if domain == "any" else OutcomeDomain(domain),
                range(int(first), int(last) + 1),
                int(team),
                int(least),
                places,
            )
    return patterns


def teaching_place(delivery_mode: str) -> TeachingPlace:
    """Return the place that a delivery mode means; a mixed one counts as a room."""
    mode = delivery_mode.lower()
    if _WORKPLACE.search(mode):
        return "w"
    return "o" if _ONLINE.search(mode) and not _MIXED.search(mode) else "r"


@cache
def fitting_patterns(
    phase: str,
    domain: OutcomeDomain,
    level: BloomLevel,
    place: TeachingPlace,
    group_size: int | None,
) -> tuple[str, ...]:
    """Return the ids of the patterns that fit.

    Where none fits the place or the group, those that fit the outcome are returned.
    """
    people = 12 if group_size is None else group_size
    suitable = [
        pattern
        for pattern in load_patterns().values()
        if pattern.phase == phase
        and pattern.domain in {None, domain}
        and level.rank in pattern.ranks
    ]
    if not suitable:
        suitable = [
            pattern
            for pattern in load_patterns().values()
            if pattern.phase == phase and pattern.domain in {None, domain}
        ]
    fitting = [each for each in suitable if each.least <= people and place in each.places]
    return tuple(
        each.id
        for each in fitting or [each for each in suitable if each.least <= people] or suitable
    )


@dataclass(slots=True)
class PatternChooser:
    """Chooses the patterns of a plan's lessons one after another.

    The same lessons with the same seed get the same patterns. A pattern never follows itself, and
    a lesson differs from every earlier one with the same phases in several patterns.
    """

    seed: str
    place: TeachingPlace
    group_size: int | None
    _uses: dict[str, int] = field(default_factory=dict)
    _last: tuple[str, ...] = ()
    _earlier: dict[tuple[str, ...], list[int]] = field(default_factory=dict)
    """The earlier lessons by their phases, each as the set of its patterns: a bit for a pattern."""
    _count: int = 0

    def choose(
        self, phases: Sequence[str], domain: OutcomeDomain, level: BloomLevel
    ) -> tuple[str, ...]:
        """Return one pattern for each phase of the next lesson."""
        self._count += 1
        chosen: list[str] = []
        earlier = self._earlier.setdefault(tuple(phases), [])
        candidates = [
            fitting_patterns(phase, domain, level, self.place, self.group_size) for phase in phases
        ]
        for position, ids in enumerate(candidates):
            used = {*chosen, *self._last}
            free = [id for id in ids if id not in used]
            for phase in () if free else _SUBSTITUTES.get(phases[position], ()):
                others = fitting_patterns(phase, domain, level, self.place, self.group_size)
                free = free or [id for id in others if id not in used]
            free = free or [id for id in ids if id not in chosen] or list(ids)
            chosen.append(
                min(free, key=lambda id: (self._uses.get(id, 0), self._rank(id, position)))
            )
        chosen = self._make_distinct(chosen, candidates, earlier)
        for id in chosen:
            self._uses[id] = self._uses.get(id, 0) + 1
        self._last = tuple(chosen)
        earlier.append(_pattern_bits(chosen))
        return self._last

    def _rank(self, id: str, position: int) -> str:
        text = f"{self.seed}.{self._count}.{position}.{id}"
        return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()

    def _make_distinct(
        self,
        chosen: list[str],
        candidates: Sequence[Sequence[str]],
        earlier: Sequence[int],
    ) -> list[str]:
        """Exchange patterns until the lesson is far enough from every earlier one."""
        best = chosen
        best_distance = _least_distance(chosen, earlier)
        for turn in range(24):
            if best_distance >= min(_SEQUENCE_DISTANCE, len(chosen) - 1):
                break
            position = turn % len(chosen)
            for id in sorted(
                candidates[position], key=lambda id: self._rank(f"{id}.{turn}", position)
            ):
                if id in best or id in self._last:
                    continue
                attempt = [*best[:position], id, *best[position + 1 :]]
                distance = _least_distance(attempt, earlier)
                if distance > best_distance or (distance == best_distance and turn % 3 == 2):
                    best, best_distance = attempt, distance
                    break
        return best


@cache
def _pattern_bit(id: str) -> int:
    return 1 << list(load_patterns()).index(id)


def _pattern_bits(ids: Sequence[str]) -> int:
    return sum(_pattern_bit(id) for id in dict.fromkeys(ids))


def _least_distance(chosen: Sequence[str], earlier: Sequence[int]) -> int:
    """Return in how many patterns a lesson differs from the most similar earlier one."""
    bits = _pattern_bits(chosen)
    return len(chosen) - max(((bits & each).bit_count() for each in earlier), default=0)
