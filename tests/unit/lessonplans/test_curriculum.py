"""Curricula are read from three kinds of files, with every fault at once and its place."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.unit.lessonplans.plans import PLAIN

from homeroom.errors import Invalid
from homeroom.lessonplans import bloom
from homeroom.lessonplans.bloom import Bloom
from homeroom.lessonplans.curriculum import dump, hours, parse
from homeroom.lessonplans.skeleton import skeleton
from homeroom.lessonplans.source import read

EXAMPLES = Path(__file__).resolve().parents[3] / "examples/curricula"


def faults_of(text: str, form: Any) -> list[tuple[str, str]]:
    with pytest.raises(Invalid) as caught:
        read(text.encode(), form, "title")
    return [(each["pointer"], each["detail"]) for each in caught.value.details["errors"]]


def test_the_example_has_eight_modules_of_150_hours_in_lessons_of_90_minutes() -> None:
    curriculum = parse(read((EXAMPLES / "data-skills.yaml").read_bytes(), "yaml", ""))
    assert len(curriculum.modules) == 8
    assert curriculum.minutes == 150 * 60
    slots = skeleton(curriculum)
    assert [slot.minutes for slot in slots] == [90] * 100


def test_a_table_becomes_modules_and_outcomes() -> None:
    body = read((EXAMPLES / "first-aid.csv").read_bytes(), "csv", "First aid")
    curriculum = parse(body)
    assert curriculum.title == "First aid"
    assert [(each.title, each.minutes, len(each.outcomes)) for each in curriculum.modules] == [
        ("Before help comes", 120, 2),
        ("Keeping alive", 240, 3),
    ]
    assert curriculum.modules[1].outcomes[2].level is Bloom.EVALUATE
    assert curriculum.modules[1].outcomes[2].id == "m2.3"


def test_tables_of_other_countries_are_read() -> None:
    text = "\ufeffModule;Contact hours;Learning outcome\nBrot;1,5;Erkläre, wie Teig geht\n"
    [module] = read(text.encode(), "csv", "Brot")["modules"]
    assert (module["contactHours"], module["outcomes"][0]["text"]) == (
        1.5,
        "Erkläre, wie Teig geht",
    )


@pytest.mark.parametrize(
    ("text", "places"),
    [
        ("", ["line 1"]),
        ("a,b\n1,2\n", ["line 1"] * 5),
        ("module,hours,outcome\nA,x,One\nA,2,\nB,,Two\n", ["line 2", "line 3", "line 3", "line 4"]),
        ('module,hours,outcome\nA,1,"One\n', ["line 2"]),
        ("module,hours,outcome\nA,1,One,more\n", ["line 2"]),
    ],
)
def test_a_faulty_table_says_the_lines(text: str, places: list[str]) -> None:
    assert [place for place, _ in faults_of(text, "csv")] == places


@pytest.mark.parametrize(
    ("text", "form", "place", "word"),
    [
        ('{"title": \n "a" "b"}', "json", "line 2, column 6", "JSON"),
        ('{"hours": NaN}', "json", "line 1", "NaN"),
        ("[" * 100_000, "json", "line 1", "JSON"),
        ("title: a\n  b: c: d\n", "yaml", "line 2, column 4", "YAML"),
        ("a: &x 1\nb: *x\n", "yaml", "line 2, column 4", "aliases"),
        ("title: a\ntitle: b\n", "yaml", "line 2, column 1", "twice"),
        ("a: !!python/object/apply:os.system [ls]", "yaml", "line 1, column 4", "YAML"),
    ],
)
def test_a_file_that_cannot_be_read_says_where(text: str, form: str, place: str, word: str) -> None:
    [(found, detail)] = faults_of(text, form)
    assert found == place
    assert word in detail


def test_a_file_that_is_too_large_or_no_text_is_refused() -> None:
    with pytest.raises(Invalid, match="bytes"):
        read(b" " * (1024 * 1024 + 1), "json", "")
    with pytest.raises(Invalid, match="UTF-8"):
        read(b"title: \xff", "yaml", "")


def changed(*path: Any, to: Any) -> dict[str, Any]:
    body: Any = {**PLAIN, "modules": [dict(each) for each in PLAIN["modules"]]}
    inner = body
    for step in path[:-1]:
        inner = inner[step]
    inner[path[-1]] = to
    return dict(body)


@pytest.mark.parametrize(
    ("path", "value", "pointer"),
    [
        (("modules",), [], "#/modules"),
        (("modules",), "none", "#/modules"),
        (("modules", 0, "contactHours"), 0, "#/modules/0/contactHours"),
        (("modules", 0, "contactHours"), True, "#/modules/0/contactHours"),
        (("modules", 0, "contactHours"), 1e300, "#/modules/0/contactHours"),
        (("modules", 0, "contactHours"), 1.001, "#/modules/0/contactHours"),
        (("modules", 0, "outcomes"), [], "#/modules/0/outcomes"),
        (("modules", 0, "id"), "dough", "#/modules/1/id"),
        (("modules", 0, "notes"), "\x80", "#/modules/0/notes"),
        (("preferences",), {"lessonMinutes": 5}, "#/preferences/lessonMinutes"),
        (("preferences",), {"startsOn": "soon"}, "#/preferences/startsOn"),
        (("preferences",), {"startTime": "25:00"}, "#/preferences/startTime"),
        (("preferences",), {"timeZone": "../etc/passwd"}, "#/preferences/timeZone"),
        (("preferences",), {"weekdays": []}, "#/preferences/weekdays"),
        (("preferences",), {"weekdays": ["XX"]}, "#/preferences/weekdays/0"),
        (("locale",), "no language", "#/locale"),
        (("courseId",), "", "#/courseId"),
        (("surprise",), 1, "#/surprise"),
    ],
)
def test_each_fault_has_its_place(path: tuple[Any, ...], value: Any, pointer: str) -> None:
    with pytest.raises(Invalid) as caught:
        parse(changed(*path, to=value))
    assert [each["pointer"] for each in caught.value.details["errors"]] == [pointer]


def test_a_plan_of_too_many_lessons_is_refused() -> None:
    body = changed("modules", 0, "contactHours", to=1_000)
    body["preferences"] = {"lessonMinutes": 15}
    with pytest.raises(Invalid, match="lessons of 15 minutes"):
        parse(body)


def test_every_number_of_minutes_survives_being_written_as_hours() -> None:
    for minutes in range(15, 2_000):
        body = changed("modules", 0, "contactHours", to=hours(minutes))
        assert parse(body).modules[0].minutes == minutes
    assert parse(dump(parse(PLAIN))) == parse(PLAIN)


@pytest.mark.parametrize(
    ("text", "level", "verb"),
    [
        ("Explain how bread rises", Bloom.UNDERSTAND, "explain"),
        ("By the end learners will be able to analyse a recipe", Bloom.ANALYZE, "analyse"),
        ("Learner applies heat", Bloom.APPLY, "apply"),
        ("Planning a bakery", Bloom.CREATE, "plan"),
        ("Evaluated loaves", Bloom.EVALUATE, "evaluate"),
        ("Brot backen", Bloom.UNDERSTAND, None),
        ("", Bloom.UNDERSTAND, None),
    ],
)
def test_the_level_is_read_from_the_verb(text: str, level: Bloom, verb: str | None) -> None:
    assert bloom.read(text) == bloom.Reading(level, verb)


def test_every_verb_has_one_level() -> None:
    verbs = [verb for each in bloom.VERBS.values() for verb in each]
    assert len(verbs) == len(set(verbs)) > 100
