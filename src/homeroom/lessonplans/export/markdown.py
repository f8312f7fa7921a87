"""A plan and its open places as Markdown that reads well unrendered, too (pure).

A character is escaped only where CommonMark, GitHub's tables and strikethrough, or ``$`` formulas
would read it as markup: people edit these files, and most texts need no backslash at all.
"""

from __future__ import annotations

import re

from homeroom.lessonplans.curriculum import one_line
from homeroom.lessonplans.export.blocks import Block, Bullets, Grid, Heading, Paragraph, plan_blocks
from homeroom.lessonplans.plan import LessonPlan
from homeroom.lessonplans.wording import load_wording, wording_language

_PUNCTUATION = r"!-/:-@\[-`{-~"
_ESCAPE = re.compile(rf"\\(?=[{_PUNCTUATION}\n]|$)")
_ENTITY = re.compile(r"&(?=#?\w+;)")
_TAG = re.compile(r"<(?=[A-Za-z/!?])")
_LINK = re.compile(r"\](?=[(:\[])")
_FORMULA = re.compile(r"\$(?=\S)(?=[^$]*\S\$)|(?<=\S)\$")
_EMPHASIS = re.compile(r"\*+|_+|~+")
_BACKTICK = re.compile(r"`")
_LINE_START = re.compile(
    r"#{1,6}(?=\s|$)|>|[-+*](?=\s|$)|\d{1,9}[.)](?=\s|$)|~{3}|`{3}|[-_*=](?=[-_*=\s]*$)"
    r"|\[(?=[ xX]\])"  # a box to tick
)
_HEADING_END = re.compile(r"(?<=\s)#+$|^#+$")


def render_markdown(plan: LessonPlan) -> bytes:
    """Return a plan as Markdown."""
    return ("\n\n".join(render_block(block) for block in plan_blocks(plan)) + "\n").encode()


def render_checklist(plan: LessonPlan) -> bytes:
    """Return the open places of a plan as a list of boxes to tick, in Markdown."""
    labels = load_wording(wording_language(plan.curriculum)).labels
    title = labels["checklist_title"].format(title=one_line(plan.curriculum.title))
    lines = [render_block(Heading(1, title)), ""]
    places = plan.open_places
    if not places:
        lines.append(labels["checklist_none"])
    for lesson in plan.lessons:
        own = [place for other, place in places if other is lesson]
        if own:
            heading = f"{lesson.slot.number} {one_line(lesson.title)}"
            lines += ["", render_block(Heading(2, heading)), ""]
            lines += [f"- [ ] {_escape_inline(each.asks)} (`{each.field}`)" for each in own]
    return ("\n".join(lines) + "\n").encode()


def render_block(block: Block) -> str:
    """Return a block as Markdown that shows its text literally."""
    if isinstance(block, Heading):
        text = _HEADING_END.sub(lambda found: "\\" + found[0], _escape_inline(block.text))
        return "#" * block.level + " " + text
    if isinstance(block, Bullets):
        return "\n".join(f"- {_escape_line(item)}" for item in block.items)
    if isinstance(block, Grid):
        return _render_table(block)
    return _render_paragraph(block)


def _render_paragraph(block: Paragraph) -> str:
    if block.style == "note":
        return f"*{_escape_inline(block.text)}*"
    text = _escape_line(block.text)
    return f"> {text}" if block.style == "gap" else text


def _render_table(block: Grid) -> str:
    rows = [block.columns, *block.rows]
    lines = ["| " + " | ".join(_render_cell(cell) for cell in row) + " |" for row in rows]
    lines.insert(1, "| " + " | ".join(["---"] * len(block.columns)) + " |")
    return "\n".join(lines)


def _render_cell(text: str) -> str:
    lines = "\n".join(one_line(line) for line in text.split("\n"))
    # A table is cut at its bars first, wherever else they stand.
    return _escape_marks(lines).replace("|", "\\|").replace("\n", "<br>")


def _escape_line(text: str) -> str:
    """Return text as a line of its own that Markdown shows literally."""
    line = _escape_inline(text)
    found = _LINE_START.match(line)
    if found is None:
        return line
    mark = found[0]
    at = len(mark) - 1 if mark[0].isdigit() else 0  # "1\." and not "\1."
    return f"{line[:at]}\\{line[at:]}"


def _escape_inline(text: str) -> str:
    """Return text as one line in which Markdown reads no markup."""
    return _escape_marks(one_line(text))


def _escape_marks(line: str) -> str:
    line = _ESCAPE.sub(r"\\\\", line)
    line = _ENTITY.sub(r"\\&", line)
    line = _TAG.sub(r"\\<", line)
    line = _LINK.sub(r"\\]", line)
    line = _FORMULA.sub(r"\\$", line)
    if line.count("`") > 1:
        line = _BACKTICK.sub(r"\\`", line)
    return _EMPHASIS.sub(lambda found: _escape_emphasis(found, line), line)


def _escape_emphasis(found: re.Match[str], line: str) -> str:
    """Escape a run of marks that could open or close emphasis."""
    run = found[0]
    before = line[found.start() - 1 : found.start()]
    after = line[found.end() : found.end() + 1]
    is_free = before.isspace() and after.isspace()
    is_inside_word = run[0] == "_" and before.isalnum() and after.isalnum()
    if is_free or is_inside_word or (run[0] == "~" and line.count("~") == 1):
        return run
    return "".join("\\" + mark for mark in run)
