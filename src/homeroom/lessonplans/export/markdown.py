"""A plan as Markdown (CommonMark with tables); nothing of its text is taken for markup (pure)."""

from __future__ import annotations

import re

from homeroom.lessonplans.export.block import Block, Bullets, Grid, Heading, Paragraph, plan_blocks
from homeroom.lessonplans.plan import Plan
from homeroom.lessonplans.text import one_line

_MARKS = re.compile(r"([\\`*_{}\[\]<>#|~!&$^])")
_AT_START = re.compile(r"^(\s*)([-+=]|\d+[.)])")


def export(plan: Plan) -> bytes:
    """Return a plan as Markdown."""
    return ("\n\n".join(_render(block) for block in plan_blocks(plan)) + "\n").encode()


def _render(block: Block) -> str:
    if isinstance(block, Heading):
        return "#" * block.level + " " + _escaped(block.text)
    if isinstance(block, Bullets):
        return "\n".join(f"- {_escaped(item)}" for item in block.items)
    if isinstance(block, Grid):
        return _table(block)
    text = _escaped(block.text)
    return f"> **Gap.** {text}" if block.style == "gap" else _styled(block, text)


def _styled(block: Paragraph, text: str) -> str:
    return f"*{text}*" if block.style == "note" else text


def _table(block: Grid) -> str:
    rows = [block.columns, ["---"] * len(block.columns)]
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    for row in block.rows:
        lines.append("| " + " | ".join(_cell(cell) for cell in row) + " |")
    return "\n".join(lines)


def _cell(text: str) -> str:
    return "<br>".join(_escaped(line) for line in text.split("\n"))


def _escaped(text: str) -> str:
    """Return text in one line that shows as it is."""
    line = _MARKS.sub(r"\\\1", one_line(text))
    return _AT_START.sub(lambda hit: hit[1] + _start(hit[2]), line)


def _start(mark: str) -> str:
    return f"{mark[:-1]}\\{mark[-1]}"
