"""Markdown shows every text as it is; markdown-it, which is another reader, renders it."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from tests.support.effort import EFFORT
from tests.support.lesson_plan import HOSTILE_TEXTS

from homeroom.lessonplans.curriculum import one_line
from homeroom.lessonplans.export.blocks import Block, Bullets, Grid, Heading, Paragraph
from homeroom.lessonplans.export.markdown import render_block

MARKDOWN = MarkdownIt("commonmark").enable(["table", "strikethrough"])
MARKS = st.text(alphabet="\\`*_{}[]()<>#+-.!|~&;:$^=\"'/ ax1\n", min_size=1, max_size=30)
LINE = st.one_of(MARKS, st.text(min_size=1, max_size=60)).filter(lambda text: one_line(text) != "")


def blocks_of(text: str) -> list[Block]:
    """Return the text as each kind of block."""
    return [
        Heading(3, text),
        Paragraph(text),
        Paragraph(text, "note"),
        Paragraph(text, "gap"),
        Bullets([text, text]),
        Grid(("First", text), [(text, "plain")], (1, 1)),
    ]


def texts_of(block: Block) -> list[str]:
    """Return the texts that a reader of the rendered block sees."""
    shown = []
    for token in MARKDOWN.parse(render_block(block)):
        if token.type == "inline":
            lines = "".join(
                "\n" if child.content == "<br>" else child.content for child in token.children or ()
            )
            shown.append(lines)
        elif token.type in {"code_block", "fence", "html_block", "hr"}:
            shown.append(f"not text: {token.type}")
    return shown


@pytest.mark.parametrize("text", HOSTILE_TEXTS)
def test_hostile_texts_are_shown_as_they_are(text: str) -> None:
    check(text)


@given(LINE)
@settings(max_examples=400 * EFFORT, deadline=None, derandomize=True)
def test_every_text_is_shown_as_it_is(text: str) -> None:
    check(text)


def check(text: str) -> None:
    line = one_line(text)
    for block in blocks_of(text):
        if isinstance(block, Grid):
            cell = "\n".join(one_line(part) for part in text.split("\n"))
            expected = ["First", cell, cell, "plain"]
            assert [each.strip() for each in texts_of(block)] == [each.strip() for each in expected]
        elif isinstance(block, Bullets):
            assert texts_of(block) == [line, line]
        else:
            assert texts_of(block) == [line]


@pytest.mark.parametrize(
    "text",
    [
        "Carry it out! Then answer (in 5 lines): 2 * 3 = 6, 50 % & more.",
        "Hand out a text on snake_case: [add: the text or its place].",
        "Costs $5 - or $6? #1 of {many} ~ that's C#",
        "Write: ____ and go on > 10 minutes | or less.",
    ],
)
def test_usual_texts_need_no_backslash(text: str) -> None:
    rendered = render_block(Paragraph(text))
    assert rendered == text
    assert not re.search(r"\\", render_block(Bullets([text])))
