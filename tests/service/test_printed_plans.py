"""DOCX, as LibreOffice opens it, and PDF are the same printed plan."""

from __future__ import annotations

import io
import re
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from docx import Document
from pypdf import PdfReader
from tests.support.lesson_plan import PLAIN, plan_of
from tests.support.missing_server import skip_or_fail
from tools.servers.debian import Missing
from tools.servers.libreoffice import convert_to_pdf

from homeroom.errors import Invalid
from homeroom.lessonplans.curriculum_file import CURRICULUM_FORMATS, read_curriculum_file
from homeroom.lessonplans.export.formats import export_file
from homeroom.lessonplans.export.print_style import PrintStyle
from homeroom.lessonplans.export.render_process import render
from homeroom.lessonplans.plan import LessonPlan
from homeroom.lessonplans.wording import load_wording

VOCATIONAL = Path("examples/curricula/metal-joining.yaml")
LOGO = b"""<svg xmlns="http://www.w3.org/2000/svg" width="60" height="40">
<rect width="60" height="40" fill="#1f4e79"/></svg>"""
A4, LETTER = (595, 842), (612, 792)
HEADINGS = {
    load_wording("en").labels[name]
    for name in ("prior_knowledge", "key_points", "materials", "activities", "assessment",
                 "differentiation", "homework", "to_add")
}  # fmt: skip


def words(text: str) -> str:
    return "".join(text.split())


@dataclass(frozen=True)
class Page:
    """What a reader of a page sees."""

    size: tuple[int, int]
    text: str


def pages_of(content: bytes) -> list[Page]:
    return [
        Page((round(page.mediabox.width), round(page.mediabox.height)), page.extract_text())
        for page in PdfReader(io.BytesIO(content)).pages
    ]


@cache
def vocational_plan() -> LessonPlan:
    """Return a plan of two modules with practical skills."""
    form = CURRICULUM_FORMATS[VOCATIONAL.suffix]
    options = {"preferences": {"startsOn": "2027-01-11"}}
    body = read_curriculum_file(VOCATIONAL.read_bytes(), form, VOCATIONAL.stem, options)
    return plan_of({**body, "modules": body["modules"][:2]})


@cache
def pdf_pages() -> list[Page]:
    return pages_of(render("pdf", vocational_plan(), PrintStyle(school="Example School")))


@pytest.fixture(scope="module")
def docx_pages(tmp_path_factory: pytest.TempPathFactory) -> list[Page]:
    """Return the pages of the DOCX, laid out by LibreOffice."""
    folder = tmp_path_factory.mktemp("libreoffice")
    document = folder / "plan.docx"
    document.write_bytes(render("docx", vocational_plan(), PrintStyle(school="Example School")))
    try:
        made = convert_to_pdf(document, folder)
    except Missing as missing:
        skip_or_fail(missing)
    return pages_of(made.read_bytes())


@pytest.fixture(params=["pdf", "docx"])
def pages(request: pytest.FixtureRequest) -> list[Page]:
    if request.param == "pdf":
        return pdf_pages()
    opened: list[Page] = request.getfixturevalue("docx_pages")
    return opened


def lesson_starts(pages: list[Page]) -> list[tuple[str, int]]:
    """Return the number of each lesson, and the page (from 1) that its heading opens."""
    starts = []
    for number, page in enumerate(pages, start=1):
        if page.size != A4:
            continue  # the scheme of work lists lessons, too
        for line in page.text.splitlines()[:5]:
            found = re.match(r"(\d+\.\d+) \S", line.strip())
            if found and f"{found[1]} " in line and found[1] not in [each for each, _ in starts]:
                starts.append((found[1], number))
    return starts


def contents_pages(pages: list[Page]) -> list[Page]:
    """Return the pages between the title page and the scheme of work."""
    wide = next(index for index, page in enumerate(pages) if page.size != A4)
    return pages[1:wide]


def test_docx_and_pdf_have_the_lessons_of_the_plan_each_on_a_page_of_its_own(
    docx_pages: list[Page],
) -> None:
    numbers = [lesson.slot.number for lesson in vocational_plan().lessons]
    for pages in (pdf_pages(), docx_pages):
        after_contents = pages[1 + len(contents_pages(pages)) :]
        starts = lesson_starts(after_contents)
        assert [number for number, _ in starts] == numbers
        assert len({page for _, page in starts}) == len(numbers)


def test_the_contents_name_every_lesson_with_its_page(pages: list[Page]) -> None:
    contents = contents_pages(pages)
    text = "\n".join(page.text for page in contents)
    assert "Contents" in text
    entries = dict(re.findall(r"(?m)^(\d+\.\d+) [^\n]*?(?:\n[^\n]*?)??[. ]+(\d+)\s*$", text))
    offset = 1 + len(contents)
    starts = [(number, page + offset) for number, page in lesson_starts(pages[offset:])]
    assert {number: int(page) for number, page in entries.items()} == dict(starts)


def test_every_page_but_the_first_has_a_number_and_a_running_head(pages: list[Page]) -> None:
    title = vocational_plan().curriculum.title
    for number, page in enumerate(pages, start=1):
        text = page.text
        if number > 1:
            assert words(f"Page {number} of {len(pages)}") in words(text)
            assert f"Example School · {title}" in text


def test_the_scheme_of_work_is_wide_and_all_else_upright(pages: list[Page]) -> None:
    sizes = [page.size for page in pages]
    wide = [number for number, each in enumerate(sizes) if each != A4]
    assert wide == list(range(wide[0], wide[-1] + 1))
    assert {sizes[number] for number in wide} == {(A4[1], A4[0])}
    text = words("".join(pages[number].text for number in wide))
    for lesson in vocational_plan().lessons:
        assert words(lesson.title) in text
    assert words("Tue, 12 Jan 2027") in text


def test_no_heading_is_alone_at_the_end_of_a_page(pages: list[Page]) -> None:
    last_lines = [
        [line.strip() for line in page.text.splitlines() if line.strip()][-2:] for page in pages
    ]
    assert not [lines for lines in last_lines if HEADINGS & set(lines)]


def test_no_row_of_activities_is_split(pages: list[Page]) -> None:
    texts = [words(page.text) for page in pages]
    for lesson in vocational_plan().lessons:
        assert lesson.body is not None
        for activity in lesson.body.activities:
            both = (words(activity.facilitator_does), words(activity.learners_do))
            assert any(all(cell in text for cell in both) for text in texts), activity.title


def test_a_lesson_has_space_to_write_what_is_open_and_notes(pages: list[Page]) -> None:
    text = words("".join(page.text for page in pages))
    plan = vocational_plan()
    assert text.count(words("Notes after the lesson")) == len(plan.lessons)
    for _, place in plan.open_places:
        assert words(place.asks) in text


@pytest.mark.parametrize(
    ("locale", "expected"), [("en", A4), ("en-US", LETTER), ("es-MX", LETTER), ("de-AT", A4)]
)
def test_the_locale_chooses_the_paper(locale: str, expected: tuple[int, int]) -> None:
    plan = plan_of({**PLAIN, "locale": locale, "preferences": {"wording": "en"}})
    reader = PdfReader(io.BytesIO(render("pdf", plan)))
    box = reader.pages[0].mediabox
    assert (round(box.width), round(box.height)) == expected
    assert reader.trailer["/Root"]["/Lang"] == locale
    word = Document(io.BytesIO(render("docx", plan)))
    section = word.sections[0]
    assert section.page_width is not None
    assert section.page_height is not None
    assert (round(section.page_width.pt), round(section.page_height.pt)) == expected
    [language] = word.styles["Normal"].element.xpath(".//w:lang")
    assert language.values() == [locale] * 3


@pytest.mark.parametrize("form", ["pdf", "docx"])
def test_name_and_logo_of_the_school_are_on_the_first_page(form: Any, tmp_path: Path) -> None:
    logo = tmp_path / "logo.svg"
    logo.write_bytes(LOGO)
    style = PrintStyle(school="Example School", logo=logo, colour="#123456")
    content = export_file(plan_of(PLAIN), form, style).content
    if form == "pdf":
        reader = PdfReader(io.BytesIO(content))
        assert "Example School" in reader.pages[0].extract_text()
        assert reader.metadata is not None
        assert reader.metadata.author == "Example School"
        without = render("pdf", plan_of(PLAIN), replace(style, logo=None))
        assert len(content) != len(without)
    else:
        word = Document(io.BytesIO(content))
        assert word.paragraphs[1].text == "Example School"
        assert len(word.inline_shapes) == 1
        assert word.core_properties.author == "Example School"


@pytest.mark.parametrize("form", ["pdf", "docx"])
def test_the_same_plan_gives_the_same_bytes(form: Any) -> None:
    assert export_file(plan_of(PLAIN), form).content == export_file(plan_of(PLAIN), form).content


def fonts_of(reader: PdfReader) -> set[str]:
    return {
        str(font.get_object()["/BaseFont"]).partition("+")[2]
        for page in reader.pages
        for font in page["/Resources"]["/Font"].values()  # type: ignore[index]  # a dictionary
    }


def test_a_language_from_right_to_left_is_laid_out_so() -> None:
    preferences = {"wording": "en"}
    plan = plan_of({**PLAIN, "title": "خبز", "locale": "ar", "preferences": preferences})
    word = Document(io.BytesIO(render("docx", plan)))
    assert word.styles["Normal"].element.xpath(".//w:bidi")
    assert len(word.element.xpath("//w:bidiVisual")) == len(word.tables)
    fonts = fonts_of(PdfReader(io.BytesIO(render("pdf", plan))))
    assert any(name.startswith("NotoSansArabic") for name in fonts)


def test_a_script_without_a_font_is_named_instead_of_printed_as_boxes() -> None:
    plan = plan_of({**PLAIN, "title": "ᚱᚢᚾᛖᛊ and \ue000"})
    with pytest.raises(Invalid, match=r"the character U\+E000, the script Runic") as refused:
        export_file(plan, "pdf")
    assert "homeroom[fonts]" in str(refused.value.hint)
    assert export_file(plan, "docx").content


def test_greek_and_cyrillic_need_no_font_of_the_machine() -> None:
    title = "Ψωμί για αρχάριους — Хлеб для начинающих, Ąžuolas, Nguyễn"  # noqa: RUF001 - Greek
    plan = plan_of({**PLAIN, "title": title})
    reader = PdfReader(io.BytesIO(render("pdf", plan)))
    assert words(plan.curriculum.title) in words(reader.pages[0].extract_text())
    assert all(name.startswith("NotoSans") for name in fonts_of(reader))
