"""The page of faults shows what its commands print, with the fault really there."""

import re
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from tests.support.code_blocks import ROOT, Block, blocks, same, steps
from tests.support.trouble_stage import Stage
from tests.support.troubles import CAUSES, SECTIONS

pytestmark = pytest.mark.service
PAGE = ROOT / "docs" / "troubleshooting.md"
_HEADING = re.compile(r"^(##|###) (.*)$", re.MULTILINE)


def _entries() -> Iterator[tuple[str, str, Block, Block]]:
    """Yield the section and the heading of each entry with its commands and output."""
    text = PAGE.read_text(encoding="utf-8")
    found = [(text.count("\n", 0, hit.start()) + 1, hit) for hit in _HEADING.finditer(text)]
    for block, shown in steps(PAGE):
        assert shown is not None, f"{PAGE.name}:{block.line} shows no output"
        before = [hit for line, hit in found if line < block.line]
        section = [hit[2] for hit in before if hit[1] == "##"][-1]
        assert before[-1][1] == "###"
        yield section, before[-1][2], block, shown


def test_each_entry_of_the_page_has_a_cause_commands_and_an_output() -> None:
    entries = list(_entries())
    headings = [hit[2] for hit in _HEADING.finditer(PAGE.read_text(encoding="utf-8"))]
    assert [heading for _, heading, _, _ in entries] == [
        heading for heading in headings if heading not in SECTIONS
    ]
    assert {heading for _, heading, _, _ in entries} == CAUSES.keys()
    assert {section for section, _, _, _ in entries} == SECTIONS.keys()
    assert len(entries) >= 20
    assert len(list(blocks(PAGE))) == 2 * len(entries)


@pytest.mark.parametrize("section", SECTIONS)
def test_the_commands_of_a_section_show_the_fault(
    section: str, tmp_path: Path, migrated_file: Path, request: pytest.FixtureRequest
) -> None:
    needs_server = section == "Disk, clock and database"
    postgres_url: str = request.getfixturevalue("postgres_url") if needs_server else ""
    wrong = []
    with ExitStack() as stack:
        stage = Stage(tmp_path, migrated_file, stack, postgres_url)
        SECTIONS[section](stage)
        for _, heading, block, shown in (each for each in _entries() if each[0] == section):
            CAUSES[heading](stage)
            printed = stage.run(block.text)
            while stage.after:
                stage.after.pop(0)()
            if not _agree(shown, printed):
                wrong.append(f"{shown.page}:{shown.line} ({heading}) printed\n{printed}")
    assert not wrong, "\n".join(wrong)


def _agree(shown: Block, printed: str) -> bool:
    try:
        return same(shown.text, printed, shown.language)
    except ValueError:  # one of them is no JSON
        return False
