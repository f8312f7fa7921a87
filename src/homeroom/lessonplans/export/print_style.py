"""The school's look of printed plans, and the paper of a locale."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from homeroom.lessonplans.curriculum import Curriculum

PaperSize = Literal["a4", "letter"]
_LETTER_TERRITORIES = frozenset(
    ("BZ", "CA", "CL", "CO", "CR", "GT", "MX", "NI", "PA", "PH", "PR", "SV", "US", "VE")
)
"""Territories whose paper is US Letter (Unicode CLDR, ``paperSize``); all others use A4."""
_RIGHT_TO_LEFT = frozenset({"ar", "dv", "fa", "he", "ku", "ps", "sd", "ug", "ur", "yi"})


@dataclass(frozen=True, slots=True)
class PrintStyle:
    """Name, logo and colour of the school; paths are a file and a folder."""

    school: str | None = None
    logo: Path | None = None
    """PNG, JPEG or SVG file."""
    colour: str = "#1f4e79"
    """Colour of headings, as ``#rrggbb``."""
    fonts: Path | None = None
    """Folder of further fonts for PDF files."""


def paper_size(curriculum: Curriculum) -> PaperSize:
    """Return the paper of a curriculum's locale: ``en-US`` is Letter, ``en`` A4."""
    territories = {part.upper() for part in curriculum.locale.split("-")[1:]}
    return "letter" if territories & _LETTER_TERRITORIES else "a4"


def is_right_to_left(curriculum: Curriculum) -> bool:
    """Return whether the language of a curriculum is written from right to left."""
    return curriculum.locale.split("-")[0].lower() in _RIGHT_TO_LEFT
