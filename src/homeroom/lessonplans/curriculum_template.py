"""Empty curricula to fill in: XLSX, CSV and YAML, in English or German (pure)."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from typing import Literal

from openpyxl import Workbook
from openpyxl.styles import Alignment, Font
from openpyxl.utils import get_column_letter

from homeroom.lessonplans.curriculum_table import COLUMNS

TemplateLanguage = Literal["en", "de"]
_WIDE = ("module", "outcome", "criteria", "notes")
_MEANINGS: Mapping[str, tuple[str, str]] = {
    "module": ("title of the module; empty: as above", "Titel des Moduls; leer: wie oben"),
    "hours": (
        "contact hours of the module, once: 1.5 or 1:30",
        "Kontaktstunden des Moduls, einmal: 1,5 oder 1:30",
    ),
    "outcome": (
        "what learners can do afterwards; one row each",
        "was Lernende danach können; je eine Zeile",
    ),
    "module_id": ("made if empty", "wird gebildet, wenn leer"),
    "outcome_id": ("made if empty", "wird gebildet, wenn leer"),
    "bloom": (
        "remember, understand, apply, analyze, evaluate or create; read from the verb if empty",
        "erinnern, verstehen, anwenden, analysieren, bewerten oder erschaffen; leer: aus dem Verb",
    ),
    "domain": (
        "cognitive, psychomotor or affective; read from the verb if empty",
        "kognitiv, psychomotorisch oder affektiv; leer: aus dem Verb",
    ),
    "notes": ("notes on the module", "Anmerkungen zum Modul"),
    "outcome_hours": ("hours of this outcome alone", "Stunden nur dieses Lernziels"),
    "weight": (
        "share of the hours that no outcome names",
        "Anteil an den Stunden, die kein Lernziel nennt",
    ),
    "criteria": (
        "what shows that it is reached; several with |",
        "woran man es erkennt; mehrere mit |",
    ),
    "prerequisites": (
        "ids of outcomes before it; several with |",
        "IDs der Lernziele davor; mehrere mit |",
    ),
    "review_hours": ("hours of a review; 0: none", "Stunden einer Wiederholung; 0: keine"),
    "assessment_hours": ("hours of an assessment; 0: none", "Stunden einer Prüfung; 0: keine"),
    "field_practice_hours": (
        "hours outside the classroom; 0: none",
        "Stunden außerhalb des Unterrichtsraums; 0: keine",
    ),
}
_YAML = {
    "en": """\
# A curriculum. Fill in what stands in quotes; remove the lines that you do not need.
title: ""
locale: en
preferences:
  lessonMinutes: 60
  # deliveryMode: classroom
  # groupSize: 20
  # startsOn: 2027-01-11
  # startTime: 09:00
  # timeZone: Europe/London
  # weekdays: [MO, WE, FR]
modules:
  - title: ""
    contactHours: # such as 12, 1.5 or 1:30
    outcomes:
      - text: "" # what learners can do afterwards
        # bloomLevel: apply  # if the verb does not say it
        # criteria: [one, another]
      # - text: ""
  # - title: ""
  #   contactHours:
  #   outcomes:
  #     - text: ""
""",
    "de": """\
# Ein Lehrplan. Füllen Sie aus, was in Anführungszeichen steht, und entfernen Sie den Rest.
title: ""
locale: de
preferences:
  lessonMinutes: 45
  # deliveryMode: Klassenraum
  # groupSize: 25
  # startsOn: 2027-01-11
  # startTime: 08:00
  # timeZone: Europe/Berlin
  # weekdays: [MO, WE, FR]
modules:
  - title: ""
    contactHours: # etwa 12, 1.5 oder 1:30
    outcomes:
      - text: "" # was Lernende danach können
        # bloomLevel: apply  # wenn das Verb es nicht sagt
        # criteria: [eines, ein anderes]
      # - text: ""
  # - title: ""
  #   contactHours:
  #   outcomes:
  #     - text: ""
""",
}
_SHEETS = {"en": ("Curriculum", "Columns"), "de": ("Lehrplan", "Spalten")}


def csv_template(language: TemplateLanguage) -> bytes:
    """Return a CSV file with headings, separated as spreadsheets expect it."""
    text = io.StringIO(newline="")
    csv.writer(text, delimiter=";" if language == "de" else ",").writerow(_headings(language))
    return text.getvalue().encode("utf-8-sig")


def yaml_template(language: TemplateLanguage) -> bytes:
    """Return a YAML file with empty values and comments."""
    return _YAML[language].encode()


def xlsx_template(language: TemplateLanguage) -> bytes:
    """Return a workbook: a sheet with headings, and one that explains them."""
    book = Workbook()
    sheet = book.active
    assert sheet is not None  # a new workbook has a sheet
    sheet.title, explained = _SHEETS[language]
    sheet.append(list(_headings(language)))
    sheet.freeze_panes = "A2"
    for index, (column, heading) in enumerate(
        zip(COLUMNS, _headings(language), strict=True), start=1
    ):
        cell = sheet.cell(1, index)
        cell.font = Font(bold=True)
        cell.alignment = Alignment(wrap_text=True, vertical="top")
        width = 40 if column in _WIDE else max(12, len(heading) + 2)
        sheet.column_dimensions[get_column_letter(index)].width = width
    help_sheet = book.create_sheet(explained)
    position = 0 if language == "en" else 1
    for column, heading in zip(COLUMNS, _headings(language), strict=True):
        help_sheet.append([heading, _MEANINGS[column][position]])
    help_sheet.column_dimensions["A"].width = 28
    help_sheet.column_dimensions["B"].width = 90
    file = io.BytesIO()
    book.save(file)
    return file.getvalue()


TEMPLATES = {"xlsx": xlsx_template, "csv": csv_template, "yaml": yaml_template}
"""The functions that write a template, by the name of the format."""


def _headings(language: TemplateLanguage) -> list[str]:
    return [names[0 if language == "en" else 1] for names in COLUMNS.values()]
