"""A plan as PDF, set by typst.

The text of a plan goes in as data, never as markup: whatever it holds, it is shown and not run. The
template may read no file and fetch nothing.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import typst

from homeroom.clock import SECOND
from homeroom.lessonplans.export.block import Block, plan_blocks
from homeroom.lessonplans.plan import Plan

_TEMPLATE = Path(__file__).with_name("plan.typ")


def export(plan: Plan) -> bytes:
    """Return a plan as a tagged PDF."""
    data = {
        "title": plan.curriculum.title,
        "language": plan.curriculum.locale.split("-")[0].lower(),
        "blocks": [_data(block) for block in plan_blocks(plan)],
    }
    made = typst.compile(
        _TEMPLATE.read_bytes(),
        format="pdf",
        sys_inputs={"plan": json.dumps(data, ensure_ascii=False)},
        timestamp=plan.created_at // SECOND,
    )
    assert isinstance(made, bytes)  # one document, and no file was asked for
    return made


def _data(block: Block) -> dict[str, Any]:
    return {"kind": type(block).__name__.lower(), **asdict(block)}
