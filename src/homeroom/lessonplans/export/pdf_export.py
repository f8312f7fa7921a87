"""Export of a plan as a tagged PDF with embedded fonts."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import typst

from homeroom.instant import SECOND
from homeroom.lessonplans.curriculum import printable
from homeroom.lessonplans.export.blocks import Block, Grid, WritingSpace
from homeroom.lessonplans.export.fonts import select_fonts
from homeroom.lessonplans.export.print_document import (
    PrintedPlan,
    is_splittable,
    print_plan,
)
from homeroom.lessonplans.export.print_style import PrintStyle
from homeroom.lessonplans.plan import LessonPlan

_TEMPLATE = Path(__file__).with_name("plan.typ")


def render_pdf(plan: LessonPlan, style: PrintStyle) -> bytes:
    """Return a plan as PDF. Raises ``Invalid`` where no font has its characters."""
    data = _plan_data(print_plan(plan), style)
    fonts = select_fonts(_texts(data), style.fonts)
    data["fonts"] = fonts.families
    with TemporaryDirectory(prefix="homeroom-plan-") as folder:
        # typst reads files below its root alone; paths in SVG files lead nowhere else.
        root = Path(folder)
        source = root / _TEMPLATE.name
        shutil.copyfile(_TEMPLATE, source)
        if style.logo is not None:
            data["logo"] = f"logo{style.logo.suffix.lower()}"
            shutil.copyfile(style.logo, root / data["logo"])
        content = typst.compile(
            source,
            root=root,
            format="pdf",
            font_paths=fonts.folders,
            ignore_system_fonts=not fonts.uses_system_fonts,
            sys_inputs={"plan": json.dumps(data, ensure_ascii=False)},
            timestamp=plan.created_at // SECOND,
            # PDF/UA-1: its rules on tags, titles and alternative texts hold, or this fails.
            pdf_standards="ua-1",
        )
    assert isinstance(content, bytes)  # a list only for several pages, None only with a file name
    return content


def _plan_data(printed: PrintedPlan, style: PrintStyle) -> dict[str, Any]:
    language, *parts = printed.locale.split("-")
    regions = [part.upper() for part in parts if len(part) == 2 and part.isalpha()]
    data: dict[str, Any] = _printable(
        {
            **asdict(printed),
            "front": [_block_data(block) for block in printed.front],
            "scheme": {
                **asdict(printed.scheme),
                "groups": [{"title": title, "rows": rows} for title, rows in printed.scheme.groups],
            },
            "modules": [
                {
                    "title": module.title,
                    "blocks": [_block_data(block) for block in module.blocks],
                    "lessons": [
                        {
                            "title": lesson.title,
                            "blocks": [_block_data(block) for block in lesson.blocks],
                        }
                        for lesson in module.lessons
                    ],
                }
                for module in printed.modules
            ],
            "school": style.school,
            "author": style.school or "Homeroom",
            "running_title": " · ".join(
                part for part in (style.school, printed.title) if part is not None
            ),
            "logo": None,
            "colour": style.colour,
            "language": language.lower(),
            "region": regions[0] if regions else None,
        }
    )
    return data


def _block_data(block: Block | WritingSpace) -> dict[str, Any]:
    data = {"kind": type(block).__name__.lower(), **asdict(block)}
    if isinstance(block, Grid):
        data["splittable"] = [is_splittable(block, row) for row in block.rows]
    return data


def _printable(value: Any) -> Any:
    """Return data with a space for each character that no font has a shape for."""
    if isinstance(value, str):
        return printable(value)
    if isinstance(value, dict):
        return {key: _printable(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_printable(each) for each in value]
    return value


def _texts(value: Any) -> Sequence[str]:
    if isinstance(value, str):
        return [value]
    children = value.values() if isinstance(value, dict) else value
    if isinstance(children, str | int | bool | None):
        return []
    return [text for each in children for text in _texts(each)]
