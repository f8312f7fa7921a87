"""Fonts of PDF files: shipped, of extras, of the school, of the machine."""

from __future__ import annotations

import pkgutil
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import typst
from fontTools import unicodedata as scripts
from fontTools.ttLib import TTFont

from homeroom.errors import Invalid

_FONT_PACKAGES = ("fontpkg_", "pylopdf_fonts_")
"""Prefixes of packages that hold fonts; those of the extra ``fonts`` have them."""
_FIRST_FAMILY = "Noto Sans"
_SHAPELESS_CATEGORIES = frozenset({"Cc", "Cf", "Zl", "Zp", "Zs"})
_VARIATION_SELECTORS = frozenset(range(0xFE00, 0xFE10)) | frozenset(range(0xE0100, 0xE01F0))
_NO_SCRIPT = frozenset({"Zyyy", "Zinh", "Zzzz"})
_MAX_SHOWN = 5


@dataclass(frozen=True, slots=True)
class FontSelection:
    """The fonts of one file."""

    folders: list[Path]
    families: Sequence[str]
    uses_system_fonts: bool
    """False: the file is the same on every machine."""


def select_fonts(texts: Iterable[str], school_fonts: Path | None) -> FontSelection:
    """Return the fonts that have all characters of the texts.

    The machine's fonts are used only for characters that the others lack. Raises ``Invalid`` with
    the names of the scripts that no font has.
    """
    missing = _characters_with_shape(texts)
    folders = [*([] if school_fonts is None else [school_fonts]), *_package_folders()]
    families = [_FIRST_FAMILY]
    for uses_system_fonts in (False, True):
        fonts = typst.Fonts(include_system_fonts=uses_system_fonts, font_paths=folders)
        for font in sorted(fonts.fonts(), key=lambda each: (each.family, str(each.path))):
            if font.path is None:  # built into typst, and not for plans
                continue
            found = missing & _characters_of(font.path, font.index)
            if found and font.family not in families:
                families.append(font.family)
            missing -= found
        if not missing:
            return FontSelection(folders, families, uses_system_fonts)
    raise _missing_characters(missing)


def _package_folders() -> list[Path]:
    names = [each.name for each in pkgutil.iter_modules() if each.name.startswith(_FONT_PACKAGES)]
    specs = [find_spec(name) for name in sorted(names)]
    return [
        Path(place)
        for spec in specs
        if spec is not None
        for place in spec.submodule_search_locations or ()
    ]


def _characters_with_shape(texts: Iterable[str]) -> set[int]:
    """Return the code points that need a glyph."""
    return {
        ord(character)
        for character in set().union(*texts)
        if unicodedata.category(character) not in _SHAPELESS_CATEGORIES
        and ord(character) not in _VARIATION_SELECTORS
    }


def _characters_of(path: str, index: int) -> set[int]:
    with TTFont(path, fontNumber=index, lazy=True) as font:
        return set(font.getBestCmap() or ())


def _missing_characters(missing: set[int]) -> Invalid:
    names = sorted({_script_or_character(code) for code in missing})
    shown = ", ".join(names[:_MAX_SHOWN])
    if len(names) > _MAX_SHOWN:
        shown += f" and {len(names) - _MAX_SHOWN} more"
    return Invalid(
        f"No font for the PDF file has: {shown}.",
        hint="Install fonts: pip install 'homeroom[fonts]' (Khmer, Tamil, Telugu, Thai,"
        " Hebrew, Chinese, Japanese, Korean), or into the system, or into HOMEROOM_ISSUER_FONTS."
        " DOCX files use the fonts of their readers.",
    )


def _script_or_character(code: int) -> str:
    script = scripts.script(chr(code))
    if script not in _NO_SCRIPT:
        return f"the script {scripts.script_name(script)}"
    name = unicodedata.name(chr(code), "")
    return f"the character U+{code:04X}" + (f" ({name.lower()})" if name else "")
