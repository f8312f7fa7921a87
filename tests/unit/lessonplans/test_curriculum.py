"""Curricula in JSON, YAML and CSV: every error is reported at once with its place."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.support.lesson_plan import PLAIN

from homeroom.errors import Invalid
from homeroom.lessonplans.bloom import BloomLevel
from homeroom.lessonplans.curriculum import (
    Curriculum,
    contact_hours,
    dump_curriculum,
    input_hash,
)
from homeroom.lessonplans.curriculum_file import read_curriculum_file
from homeroom.lessonplans.curriculum_parser import parse_curriculum
from homeroom.lessonplans.lesson_allocation import allocate_lessons

EXAMPLES = Path(__file__).resolve().parents[3] / "examples/curricula"


def errors_of(text: str, form: Any) -> list[tuple[str, str]]:
    with pytest.raises(Invalid) as caught:
        read_curriculum_file(text.encode(), form, "title")
    return [(each["pointer"], each["detail"]) for each in caught.value.details["errors"]]


def test_the_example_has_eight_modules_of_150_hours_in_lessons_of_90_minutes() -> None:
    curriculum = parse_curriculum(
        read_curriculum_file((EXAMPLES / "data-skills.yaml").read_bytes(), "yaml", "")
    )
    assert len(curriculum.modules) == 8
    assert curriculum.minutes == 150 * 60
    slots = allocate_lessons(curriculum)
    assert [slot.minutes for slot in slots] == [90] * 100


def test_a_table_becomes_modules_and_outcomes() -> None:
    body = read_curriculum_file((EXAMPLES / "first-aid.csv").read_bytes(), "csv", "First aid")
    curriculum = parse_curriculum(body)
    assert curriculum.title == "First aid"
    assert [(each.title, each.minutes, len(each.outcomes)) for each in curriculum.modules] == [
        ("Before help comes", 120, 2),
        ("Keeping alive", 240, 3),
    ]
    assert curriculum.modules[1].outcomes[2].level is BloomLevel.EVALUATE
    assert curriculum.modules[1].outcomes[2].id == "m2.3"


def test_tables_with_semicolons_and_decimal_commas_are_read() -> None:
    text = "\ufeffModule;Contact hours;Learning outcome\nBrot;1,5;Erkläre, wie Teig geht\n"
    [module] = read_curriculum_file(text.encode(), "csv", "Brot")["modules"]
    assert (module["contactHours"], module["outcomes"][0]["text"]) == (
        1.5,
        "Erkläre, wie Teig geht",
    )


@pytest.mark.parametrize(
    ("text", "places"),
    [
        ("", ["line 1"]),
        ("a,b\n1,2\n", [*["line 1, column 1"] * 4, "line 1, column 2"]),
        (
            "module,hours,outcome\nA,x,One\nA,2,\nB,,Two\n",
            ["line 2, column 2", "line 3, column 3", "line 4, column 1"],
        ),
        ('module,hours,outcome\nA,1,"One\n', ["line 2"]),
        ("module,hours,outcome\nA,1,One,more\n", ["line 2, column 4"]),
    ],
)
def test_an_invalid_table_is_rejected_with_the_lines(text: str, places: list[str]) -> None:
    assert [place for place, _ in errors_of(text, "csv")] == places


@pytest.mark.parametrize(
    ("text", "form", "place", "word"),
    [
        ('{"title": \n "a" "b"}', "json", "line 2, column 6", "JSON"),
        ('{"hours": NaN}', "json", "line 1", "NaN"),
        ("[" * 100_000, "json", "line 1", "JSON"),
        ("title: a\n  b: c: d\n", "yaml", "line 2, column 4", "YAML"),
        ("a: &x 1\nb: *x\n", "yaml", "line 2, column 4", "aliases"),
        ("a: 1\n---\nb: 2\n", "yaml", "line 2, column 1", "second document"),
        ("[" * 100_000, "yaml", "line 1, column 22", "deep"),
        ("a: !!python/object/apply:os.system [ls]", "yaml", "line 1, column 4", "YAML"),
    ],
)
def test_a_file_that_cannot_be_parsed_is_rejected_with_the_line(
    text: str, form: str, place: str, word: str
) -> None:
    [(line, detail)] = errors_of(text, form)
    assert line == place
    assert word in detail


def test_a_file_that_is_too_large_or_no_text_is_refused() -> None:
    with pytest.raises(Invalid, match="bytes"):
        read_curriculum_file(b" " * (1024 * 1024 + 1), "json", "")
    with pytest.raises(Invalid, match="UTF-8"):
        read_curriculum_file(b"title: \xff", "yaml", "")


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
def test_each_error_has_its_place(path: tuple[Any, ...], value: Any, pointer: str) -> None:
    with pytest.raises(Invalid) as caught:
        parse_curriculum(changed(*path, to=value))
    assert [each["pointer"] for each in caught.value.details["errors"]] == [pointer]


def test_one_invalid_item_is_one_error_beside_duplicate_ids() -> None:
    outcome = {"id": "f1", "text": "Explain", "colour": "red"}
    module = {"id": "flour", "title": "Flour", "contactHours": 1, "outcomes": [outcome]}
    body = {"title": "Bread", "modules": [module, module], "preferences": {"weekdays": ["XX"]}}
    with pytest.raises(Invalid) as caught:
        parse_curriculum(body)
    assert [each["pointer"] for each in caught.value.details["errors"]] == [
        "#/modules/0/outcomes/0/colour",
        "#/modules/1/outcomes/0/colour",
        "#/preferences/weekdays/0",
        "#/modules/1/id",
        "#/modules/1/outcomes/0/id",
    ]


@pytest.mark.parametrize("body", [None, [], "text", {1: 2}, {"\ud800": 1}, {"modules": {"a": 1}}])
def test_a_body_of_any_shape_is_rejected_as_invalid(body: Any) -> None:
    with pytest.raises(Invalid):
        parse_curriculum(body)


def test_null_is_the_default() -> None:
    plain = parse_curriculum(changed("preferences", to={}))
    nulls = dict.fromkeys(("lessonMinutes", "startTime", "weekdays", "lessonsPerDay"))
    assert parse_curriculum(changed("preferences", to=nulls)) == plain
    assert parse_curriculum(changed("preferences", to=None)) == plain
    assert parse_curriculum(changed("locale", to=None)) == parse_curriculum(PLAIN)


def test_the_input_hash_never_changes_because_it_seeds_the_lesson_ids() -> None:
    example = read_curriculum_file((EXAMPLES / "data-skills.yaml").read_bytes(), "yaml", "")
    assert {input_hash(parse_curriculum(body)) for body in (PLAIN, example)} == {
        "1eebfc240267446e142818964cce3b16400881cae1becf955cbe9596a425ef13",
        "204f6e4447593469b8d3eaef517d8b6c9e525d3904d27032875c1df20c20c26a",
    }


def test_the_json_schema_names_hours_and_limits() -> None:
    schema = Curriculum.model_json_schema()
    hours = schema["$defs"]["CurriculumModule"]["properties"]["contactHours"]
    assert (hours["type"], hours["minimum"], hours["maximum"]) == ("number", 0.25, 1_000)
    modules = schema["properties"]["modules"]
    assert (modules["minItems"], modules["maxItems"]) == (1, 100)
    assert schema["required"] == ["title", "modules"]


def test_a_plan_of_too_many_lessons_is_refused() -> None:
    body = changed("modules", 0, "contactHours", to=1_000)
    body["preferences"] = {"lessonMinutes": 15}
    with pytest.raises(Invalid, match="lessons of 15 minutes"):
        parse_curriculum(body)


def test_every_number_of_minutes_survives_being_written_as_hours() -> None:
    for minutes in range(15, 2_000):
        body = changed("modules", 0, "contactHours", to=contact_hours(minutes))
        assert parse_curriculum(body).modules[0].minutes == minutes
    assert parse_curriculum(dump_curriculum(parse_curriculum(PLAIN))) == parse_curriculum(PLAIN)
