"""Files as teachers write them: no ids, hours as clock times, office tables."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Sequence
from datetime import time, timedelta
from typing import Any

import docx
import openpyxl
import pytest

from homeroom.errors import Invalid
from homeroom.lessonplans.curriculum_file import CurriculumFormat, read_curriculum_file
from homeroom.lessonplans.curriculum_office import MAX_UNCOMPRESSED_BYTES
from homeroom.lessonplans.curriculum_template import csv_template, xlsx_template, yaml_template


def read(text: str, form: CurriculumFormat = "yaml", **options: Any) -> Any:
    return read_curriculum_file(text.encode(), form, "Title", options)


def faults_of(content: bytes, form: CurriculumFormat, **options: Any) -> list[tuple[str, str]]:
    with pytest.raises(Invalid) as caught:
        read_curriculum_file(content, form, "Title", options)
    return [(each["pointer"], each["detail"]) for each in caught.value.details["errors"]]


def workbook(*sheets: Sequence[Sequence[Any]]) -> bytes:
    book = openpyxl.Workbook()
    book.remove(book.active)
    for rows in sheets:
        sheet = book.create_sheet()
        for row in rows:
            sheet.append(row)
    file = io.BytesIO()
    book.save(file)
    return file.getvalue()


def document(*tables: Sequence[Sequence[str]]) -> bytes:
    page = docx.Document()
    for rows in tables:
        table = page.add_table(len(rows), len(rows[0]))
        for row, cells in zip(table.rows, rows, strict=True):
            for cell, text in zip(row.cells, cells, strict=True):
                cell.text = text
    file = io.BytesIO()
    page.save(file)
    return file.getvalue()


PLAIN = """\
title: Bread
modules:
  - title: Flour
    contactHours: 1:30
    outcomes:
      - text: Explain the word flour
      - text: Compare two kinds of flour
        hours: "0:45"
  - id: m1
    title: Dough
    contactHours: 2.5
    outcomes: [{id: m1-2.1, text: Knead a dough}]
preferences: {startTime: 10:30, lessonMinutes: 45}
"""


def test_ids_are_made_where_they_are_missing_and_are_the_same_again() -> None:
    body = read(PLAIN)
    assert [module["id"] for module in body["modules"]] == ["m1-2", "m1"]
    assert [each["id"] for each in body["modules"][0]["outcomes"]] == ["m1-2.1-2", "m1-2.2"]
    assert read(PLAIN) == body


def test_clock_times_are_text_in_yaml_and_hours_and_minutes_where_hours_stand() -> None:
    body = read(PLAIN)
    assert body["modules"][0]["contactHours"] == 1.5
    assert body["modules"][0]["outcomes"][1]["hours"] == 0.75
    assert body["preferences"]["startTime"] == "10:30"
    assert read(PLAIN.replace("Bread", "1:30"))["title"] == "1:30"


@pytest.mark.parametrize("text", ["yes", "2027-01-11", "12:30:45", "1_000", "0b1", "off"])
def test_scalars_of_yaml_1_1_are_text(text: str) -> None:
    assert read(PLAIN.replace("Bread", text))["title"] == text


@pytest.mark.parametrize("form", ["yaml", "json"])
def test_all_faults_are_said_at_once_in_words_with_line_and_column(form: CurriculumFormat) -> None:
    text = """\
{"title": "",
 "modules": [{"id": "a", "title": "A", "contactHours": "long",
              "outcomes": [{"text": "Explain"}, {"txt": "Explain"}]},
             {"id": "a", "contactHours": 1, "outcomes": [],
              "id": "b"}],
 "preferences": {"startTime": "25:00", "lessonMinuten": 45}}
"""
    assert faults_of(text.encode(), form) == [
        ("line 1, column 2", "title must not be empty"),
        ("line 2, column 40", "module 1: contactHours must be a number of hours from 0.25 to 1000"),
        ("line 3, column 49", "module 1, outcome 2: text is required"),
        (
            "line 3, column 50",
            "module 1, outcome 2: txt is not a known field; did you mean text?",
        ),
        ("line 4, column 14", "module 2: title is required"),
        ("line 4, column 15", "module 2: id is also the id of an earlier module (module 1)"),
        ("line 4, column 45", "module 2: outcomes must have at least one item"),
        ("line 5, column 15", "the key 'id' is there twice"),
        (
            "line 6, column 18",
            "preferences: startTime must be a time from 00:00 to 23:59 such as 09:00",
        ),
        (
            "line 6, column 40",
            "preferences: lessonMinuten is not a known field; did you mean lessonMinutes?",
        ),
    ]


def test_options_replace_what_the_file_says_and_have_their_own_place() -> None:
    body = read(PLAIN, title="Brot", preferences={"lessonMinutes": 30, "weekdays": ["MO"]})
    assert body["title"] == "Brot"
    assert body["preferences"] == {
        "startTime": "10:30", "lessonMinutes": 30, "weekdays": ["MO"],
    }  # fmt: skip
    [(place, detail)] = faults_of(PLAIN.encode(), "yaml", preferences={"lessonMinutes": 5})
    assert (place, detail[:27]) == ("the command line", "preferences: lessonMinutes:")


GERMAN = [
    ["Modul", "Modul-ID", "Stunden", "Lernziel", "Taxonomiestufe", "Kriterien"],
    ["Mehl", "", "1,5", "Mehlsorten vergleichen", "Analysieren", "Zwei Sorten|Drei Merkmale"],
    ["Teig", "t", "2:00", "Einen Teig kneten", "anwenden", ""],
    ["mehl", "", "", "Mehl prüfen", "", ""],
    ["", "", "", "Mehl lagern", "", ""],
    ["", "t", "", "Einen Teig formen", "", ""],
]


@pytest.mark.parametrize("form", ["csv", "xlsx", "docx"])
def test_a_german_table_whose_modules_are_not_together_is_read(form: CurriculumFormat) -> None:
    content = {
        "csv": "\n".join(";".join(row) for row in GERMAN).encode(),
        "xlsx": workbook([["An den Rand"]], GERMAN),
        "docx": document([["Schule"]], GERMAN[:3], [GERMAN[0], *GERMAN[3:]]),
    }[form]
    flour, dough = read_curriculum_file(content, form, "Brot")["modules"]
    assert (flour["contactHours"], dough["contactHours"], dough["id"]) == (1.5, 2, "t")
    texts = [each["text"] for each in flour["outcomes"]]
    assert texts == ["Mehlsorten vergleichen", "Mehl prüfen", "Mehl lagern"]
    assert flour["outcomes"][0]["bloomLevel"] == "analyze"
    assert flour["outcomes"][0]["criteria"] == ["Zwei Sorten", "Drei Merkmale"]
    assert [each["text"] for each in dough["outcomes"]] == [
        "Einen Teig kneten",
        "Einen Teig formen",
    ]


def test_cells_of_a_workbook_are_read_as_a_person_sees_them() -> None:
    rows = [
        ["module", "hours", "outcome", "outcome_hours"],
        ["A", time(1, 30), "Explain", 0.1 + 0.2 + 0.2],
        [2024, timedelta(hours=30), "Compare", None],
        [None, None, None, None],
        ["C", 2.0, "Describe", None],
    ]
    modules = read_curriculum_file(workbook(rows), "xlsx", "T")["modules"]
    assert [each["title"] for each in modules] == ["A", "2024", "C"]
    assert [each["contactHours"] for each in modules] == [1.5, 30, 2]
    assert modules[0]["outcomes"][0]["hours"] == 0.5


def test_cells_that_are_merged_in_a_document_continue_the_module() -> None:
    page = docx.Document()
    table = page.add_table(3, 3)
    for row, texts in zip(table.rows, ["module hours outcome", "A 2 x", "  y"], strict=True):
        for cell, text in zip(row.cells, texts.split(" "), strict=True):
            cell.text = text
    table.cell(1, 0).merge(table.cell(2, 0))
    file = io.BytesIO()
    page.save(file)
    [module] = read_curriculum_file(file.getvalue(), "docx", "T")["modules"]
    assert [each["text"] for each in module["outcomes"]] == ["x", "y"]


def test_faults_of_office_files_name_the_cell_and_the_heading_of_the_file() -> None:
    rows = [["Modul", "Stunden", "Lernziel"], ["A", "viel", "Mehl prüfen"], ["A", "", ""]]
    assert faults_of(workbook(rows), "xlsx") == [
        (
            "sheet 'Sheet', cell B2",
            "module 1: Stunden must be a number of hours from 0.25 to 1000",
        ),
        ("sheet 'Sheet', cell C3", "module 1, outcome 2: Lernziel must not be empty"),
    ]
    places = [place for place, _ in faults_of(document(rows), "docx")]
    assert places == ["table 1, row 2, cell 2", "table 1, row 3, cell 3"]
    wrong = [["module", "hours", "outcome", "colour"], ["A", 1, "x", "red"]]
    [(place, detail)] = faults_of(workbook(wrong), "xlsx")
    assert place.endswith("cell D1")
    assert "'colour'" in detail


def test_hours_of_one_module_that_differ_and_one_id_with_two_titles_are_faults() -> None:
    text = "module,module_id,hours,outcome\nA,a,1,x\nB,b,1,y\nA,a,2,z\nC,b,,q\n"
    assert [place for place, _ in faults_of(text.encode(), "csv")] == [
        "line 4, column 3",
        "line 5, column 1",
    ]


def archive(parts: dict[str, bytes]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as bundle:
        for name, content in parts.items():
            bundle.writestr(name, content)
    return file.getvalue()


@pytest.mark.parametrize("form", ["xlsx", "docx"])
@pytest.mark.parametrize(
    ("content", "word"),
    [
        (b"no archive", "ZIP"),
        (archive({"a.xml": b"<a/>"}), "is not"),
        (archive({"a.xml": b"<a/>"})[7:], "ZIP"),
        (archive({"a.xml": b" " * (MAX_UNCOMPRESSED_BYTES + 1)}), "unpacks"),
        (archive({f"{number}.xml": b"" for number in range(1_001)}), "unpacks"),
        (archive({"a.xml": b'<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>'}), "document type"),
        (archive({"a.xml": "<!DOCTYPE a><a/>".encode("utf-16")}), "document type"),
    ],
)
def test_an_office_file_that_is_none_or_unpacks_to_too_much_is_refused(
    form: CurriculumFormat, content: bytes, word: str
) -> None:
    [(_, detail)] = faults_of(content, form)
    assert word in detail


def test_rows_beyond_the_limit_are_one_fault() -> None:
    text = "module,hours,outcome\n" + "A,9,x\n" * 5_001
    faults = faults_of(text.encode(), "csv")
    assert ("line 5002, column 1", "is beyond row 5000") in faults


def test_every_json_document_has_the_body_that_it_says() -> None:
    body = read(PLAIN)
    for indent in (None, 2, "\t"):
        assert read(json.dumps(body, indent=indent), "json") == body


@pytest.mark.parametrize("language", ["en", "de"])
def test_templates_are_read_when_they_are_filled_in(language: Any) -> None:
    text = csv_template(language).decode("utf-8-sig").strip()
    delimiter = ";" if language == "de" else ","
    filled = delimiter.join(["A", "1:30", "Explain", "a", "x"])
    [module] = read(f"{text}\n{filled}\n", "csv")["modules"]
    assert (module["id"], module["outcomes"][0]["id"]) == ("a", "x")

    book = openpyxl.load_workbook(io.BytesIO(xlsx_template(language)))
    book.worksheets[0].append(["A", 1.5, "Explain"])
    file = io.BytesIO()
    book.save(file)
    [module] = read_curriculum_file(file.getvalue(), "xlsx", "T")["modules"]
    assert module["contactHours"] == 1.5

    yaml = yaml_template(language)
    assert [place.partition(",")[0] for place, _ in faults_of(yaml, "yaml")] == [
        "line 2", "line 13", "line 14", "line 16",
    ]  # fmt: skip
    filled = yaml.decode().replace('""', '"Explain"', 3).replace("contactHours:", "contactHours: 2")
    assert read(filled)["modules"][0]["contactHours"] == 2


@pytest.mark.parametrize(
    ("template", "form"), [(csv_template, "csv"), (xlsx_template, "xlsx"), (yaml_template, "yaml")]
)
def test_an_empty_template_is_refused_with_what_is_missing(
    template: Any, form: CurriculumFormat
) -> None:
    assert all(detail for _, detail in faults_of(template("en"), form))
