"""The pictures of exports in docs show what the exports are today."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
from tests.docs.plan_png import picture
from tests.support.missing_server import skip_or_fail
from tools.servers.debian import Missing

from homeroom.lessonplans.export.formats import EXPORT_FORMATS, ExportFormat

DOCS = Path("docs")
MAX_BYTES = 160_000


def size_of(png: bytes) -> tuple[int, int]:
    """Return width and height of a picture."""
    assert png.startswith(b"\x89PNG\r\n\x1a\n")
    width, height = struct.unpack(">II", png[16:24])
    return width, height


@pytest.mark.parametrize("form", list(EXPORT_FORMATS))
def test_each_export_has_a_picture_of_a_page_in_docs(form: ExportFormat, tmp_path: Path) -> None:
    name = f"lesson-plan-{form.replace('.', '')}.png"
    kept = (DOCS / name).read_bytes()
    assert name in (DOCS / "lesson-plans.md").read_text(encoding="utf-8")
    assert len(kept) < MAX_BYTES
    try:
        made = picture(form, tmp_path)
    except Missing as missing:
        skip_or_fail(missing)
    if form in {"docx", "pdf"}:
        # Fonts differ between machines, by which LibreOffice sets other lines: not so the sheets.
        assert size_of(made) == size_of(kept)
    else:
        assert size_of(made)[0] > 100
