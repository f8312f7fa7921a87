"""A curriculum as the JSON document of ``POST /api/v3/workflow``, read and written (pure)."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

from homeroom.catalogue.api import Faults, Place
from homeroom.lessonplans.bloom import Bloom
from homeroom.lessonplans.text import printable

# Stored curricula are read by ``parse`` too: a later release may loosen a limit, never tighten one.
MAX_MODULES = 100
MAX_OUTCOMES = 50
MAX_MINUTES = 60_000
"""A thousand contact hours in one module."""
MIN_MINUTES = 15
MAX_LESSONS = 1_000
LESSON_MINUTES = (15, 480)
MAX_TITLE, MAX_TEXT, MAX_NOTES = 200, 500, 4_000
WEEKDAYS = ("MO", "TU", "WE", "TH", "FR", "SA", "SU")

_CURRICULUM = frozenset({"title", "courseId", "locale", "modules", "preferences"})
_MODULE = frozenset({"id", "title", "contactHours", "outcomes", "notes"})
_OUTCOME = frozenset({"id", "text", "bloomLevel"})
_PREFERENCES = frozenset(
    {
        "lessonMinutes",
        "deliveryMode",
        "startsOn",
        "startTime",
        "timeZone",
        "weekdays",
        "lessonsPerDay",
    }
)
_LOCALE = re.compile(r"[A-Za-z]{2,3}(?:-[A-Za-z0-9]{1,8})*")
_TIME = re.compile(r"([01][0-9]|2[0-3]):([0-5][0-9])")
_OTHER_NAMES = {
    "analyse": Bloom.ANALYZE,
    "remembering": Bloom.REMEMBER,
    "understanding": Bloom.UNDERSTAND,
    "applying": Bloom.APPLY,
    "analyzing": Bloom.ANALYZE,
    "analysing": Bloom.ANALYZE,
    "evaluating": Bloom.EVALUATE,
    "creating": Bloom.CREATE,
}


@dataclass(frozen=True, slots=True)
class Outcome:
    """What learners can do afterwards. ``level`` None: the author declared none."""

    id: str
    text: str
    level: Bloom | None


@dataclass(frozen=True, slots=True)
class Module:
    """A part of a curriculum with its contact time in whole minutes."""

    id: str
    title: str
    minutes: int
    outcomes: tuple[Outcome, ...]
    notes: str | None


@dataclass(frozen=True, slots=True)
class Preferences:
    """How the author wants it taught."""

    lesson_minutes: int = 60
    delivery_mode: str = "classroom"
    starts_on: date | None = None
    """The first day of teaching; None: the Monday after the plan was made."""
    start_time: str = "09:00"
    time_zone: str = "UTC"
    weekdays: tuple[str, ...] = ("MO", "TU", "WE", "TH", "FR")
    lessons_per_day: int = 1


@dataclass(frozen=True, slots=True)
class Curriculum:
    """What a plan is made from."""

    title: str
    course_id: str | None
    locale: str
    modules: tuple[Module, ...]
    preferences: Preferences

    @property
    def minutes(self) -> int:
        """Return all contact time."""
        return sum(module.minutes for module in self.modules)


def parse(body: Any) -> Curriculum:
    """Read a curriculum.

    Raises ``Invalid`` with every fault and its place (``errors: [{pointer, detail}]``).
    """
    faults = Faults()
    given = faults.mapping(body, (), _CURRICULUM)
    course_id = given.get("courseId")
    curriculum = Curriculum(
        title=_text(faults, given.get("title"), ("title",), MAX_TITLE),
        course_id=None if course_id is None else faults.id(course_id, ("courseId",)),
        locale=_locale(faults, given.get("locale")),
        modules=_modules(faults, given.get("modules")),
        preferences=_preferences(faults, given.get("preferences")),
    )
    if not faults.found:
        longest = curriculum.preferences.lesson_minutes
        count = sum(lesson_count(module.minutes, longest) for module in curriculum.modules)
        if count > MAX_LESSONS:
            faults.add(
                ("preferences", "lessonMinutes"),
                f"makes {count} lessons of {longest} minutes; a plan has at most {MAX_LESSONS}",
            )
    faults.check("The curriculum")
    return curriculum


def lesson_count(minutes: int, lesson_minutes: int) -> int:
    """Return into how many lessons contact time is split: as many as come nearest to the wish."""
    return max(1, (2 * minutes + lesson_minutes) // (2 * lesson_minutes))


def dump(curriculum: Curriculum) -> dict[str, Any]:
    """Return the document with every default written out: equal curricula, equal documents."""
    wishes = curriculum.preferences
    return {
        "title": curriculum.title,
        "courseId": curriculum.course_id,
        "locale": curriculum.locale,
        "modules": [
            {
                "id": module.id,
                "title": module.title,
                "contactHours": hours(module.minutes),
                "outcomes": [
                    {
                        "id": outcome.id,
                        "text": outcome.text,
                        "bloomLevel": None if outcome.level is None else outcome.level.value,
                    }
                    for outcome in module.outcomes
                ],
                "notes": module.notes,
            }
            for module in curriculum.modules
        ],
        "preferences": {
            "lessonMinutes": wishes.lesson_minutes,
            "deliveryMode": wishes.delivery_mode,
            "startsOn": None if wishes.starts_on is None else wishes.starts_on.isoformat(),
            "startTime": wishes.start_time,
            "timeZone": wishes.time_zone,
            "weekdays": list(wishes.weekdays),
            "lessonsPerDay": wishes.lessons_per_day,
        },
    }


def input_hash(curriculum: Curriculum) -> str:
    """Return a hash of everything that a plan is made from."""
    text = json.dumps(dump(curriculum), sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def hours(minutes: int) -> int | float:
    """Return minutes as the number of hours that reads back as the same minutes."""
    return minutes // 60 if minutes % 60 == 0 else round(minutes / 60, 4)


def _text(faults: Faults, value: Any, at: Place, longest: int) -> str:
    """Read text that is not blank, without what no document format can hold."""
    text = printable(faults.text(value, at, longest))
    if not text.strip() and not (faults.found and faults.found[-1][0] == at):
        faults.add(at, "must be text that is not blank")
    return text


def _locale(faults: Faults, value: Any) -> str:
    if value is None:
        return "en"
    if isinstance(value, str) and len(value) <= 35 and _LOCALE.fullmatch(value):
        return value
    faults.add(("locale",), "must be a language tag, such as en or pt-BR")
    return "en"


def _modules(faults: Faults, value: Any) -> tuple[Module, ...]:
    given = faults.items(value, ("modules",))
    if isinstance(value, list) and not 1 <= len(given) <= MAX_MODULES:
        faults.add(("modules",), f"a curriculum has 1 to {MAX_MODULES} modules")
        return ()
    modules: list[Module] = []
    seen: dict[str, Place] = {}
    outcomes_seen: dict[str, Place] = {}
    for index, each in enumerate(given):
        at: Place = ("modules", index)
        module = faults.mapping(each, at, _MODULE)
        notes = module.get("notes")
        modules.append(
            Module(
                id=_own_id(faults, module.get("id"), (*at, "id"), seen, "module"),
                title=_text(faults, module.get("title"), (*at, "title"), MAX_TITLE),
                minutes=_minutes(faults, module.get("contactHours"), (*at, "contactHours")),
                outcomes=_outcomes(
                    faults, module.get("outcomes"), (*at, "outcomes"), outcomes_seen
                ),
                notes=None if notes is None else _text(faults, notes, (*at, "notes"), MAX_NOTES),
            )
        )
    return tuple(modules)


def _own_id(faults: Faults, value: Any, at: Place, seen: dict[str, Place], what: str) -> str:
    """Read an id that nothing earlier of its kind may have."""
    id = faults.id(value, at)
    if id in seen:
        first = "/".join(str(part) for part in seen[id])
        faults.add(at, f"is the id of an earlier {what} too ({first})")
    elif id:
        seen[id] = at
    return id


def _minutes(faults: Faults, value: Any, at: Place) -> int:
    """Read hours that are whole minutes; 0.3333 is twenty minutes, as ``hours`` writes it."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not MIN_MINUTES / 60 <= value <= MAX_MINUTES / 60:
        faults.add(at, f"must be a number of hours from {MIN_MINUTES / 60} to {MAX_MINUTES // 60}")
        return MIN_MINUTES
    minutes = Decimal(repr(value)) * 60
    whole = minutes.to_integral_value()
    if abs(minutes - whole) > Decimal("0.01"):
        faults.add(at, f"must be whole minutes; {value} hours are {minutes.normalize():f} minutes")
        return MIN_MINUTES
    return int(whole)


def _outcomes(faults: Faults, value: Any, at: Place, seen: dict[str, Place]) -> tuple[Outcome, ...]:
    given = faults.items(value, at)
    if isinstance(value, list) and not 1 <= len(given) <= MAX_OUTCOMES:
        faults.add(at, f"a module has 1 to {MAX_OUTCOMES} outcomes")
        return ()
    outcomes = []
    for index, each in enumerate(given):
        here: Place = (*at, index)
        outcome = faults.mapping(each, here, _OUTCOME)
        outcomes.append(
            Outcome(
                id=_own_id(faults, outcome.get("id"), (*here, "id"), seen, "outcome"),
                text=_text(faults, outcome.get("text"), (*here, "text"), MAX_TEXT),
                level=_level(faults, outcome.get("bloomLevel"), (*here, "bloomLevel")),
            )
        )
    return tuple(outcomes)


def _level(faults: Faults, value: Any, at: Place) -> Bloom | None:
    if value is None:
        return None
    word = value.strip().lower() if isinstance(value, str) else value
    if isinstance(word, str) and word in _OTHER_NAMES:
        return _OTHER_NAMES[word]
    found = faults.one_of(word, at, [level.value for level in Bloom])
    return None if found is None else Bloom(found)


def _preferences(faults: Faults, value: Any) -> Preferences:
    at: Place = ("preferences",)
    if value is None:
        return Preferences()
    given = {
        key: each
        for key, each in faults.mapping(value, at, _PREFERENCES).items()
        if each is not None
    }
    default = Preferences()
    least, most = LESSON_MINUTES
    return Preferences(
        lesson_minutes=faults.whole(
            given.get("lessonMinutes", default.lesson_minutes), (*at, "lessonMinutes"), least, most
        ),
        delivery_mode=_text(
            faults, given.get("deliveryMode", default.delivery_mode), (*at, "deliveryMode"), 60
        ),
        starts_on=_day(faults, given),
        start_time=_start_time(faults, given.get("startTime", default.start_time)),
        time_zone=_time_zone(faults, given.get("timeZone", default.time_zone)),
        weekdays=_weekdays(faults, given),
        lessons_per_day=faults.whole(given.get("lessonsPerDay", 1), (*at, "lessonsPerDay"), 1, 12),
    )


def _day(faults: Faults, given: Mapping[str, Any]) -> date | None:
    value = given.get("startsOn")
    if value is None:
        return None
    try:
        day = date.fromisoformat(value)
    except (TypeError, ValueError):
        day = None
    if day is None or not 1970 <= day.year <= 2200:
        faults.add(("preferences", "startsOn"), "must be a day such as 2027-01-11")
    return day


def _start_time(faults: Faults, value: Any) -> str:
    if isinstance(value, str) and _TIME.fullmatch(value):
        return value
    faults.add(("preferences", "startTime"), "must be a time of day such as 09:00")
    return "09:00"


def _time_zone(faults: Faults, value: Any) -> str:
    try:
        return ZoneInfo(value).key
    except (TypeError, ValueError, OSError, LookupError):
        faults.add(("preferences", "timeZone"), "must be an IANA time zone such as Europe/Berlin")
        return "UTC"


def _weekdays(faults: Faults, given: Mapping[str, Any]) -> tuple[str, ...]:
    at: Place = ("preferences", "weekdays")
    if "weekdays" not in given:
        return Preferences().weekdays
    found = {
        faults.one_of(each, (*at, index), WEEKDAYS)
        for index, each in enumerate(faults.items(given["weekdays"], at))
    }
    days = tuple(day for day in WEEKDAYS if day in found)
    if not days and not found:
        faults.add(at, f"must name one day or more of {', '.join(WEEKDAYS)}")
    return days or Preferences().weekdays
