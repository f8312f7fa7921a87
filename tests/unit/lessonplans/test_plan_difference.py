"""Differences of two plan documents."""

from __future__ import annotations

import copy
from typing import Any

from tests.support.lesson_plan import PLAIN, plan_of

from homeroom.lessonplans.plan import plan_document
from homeroom.lessonplans.plan_difference import compare_plans


def document() -> dict[str, Any]:
    return copy.deepcopy(plan_document(plan_of(PLAIN)))


def test_equal_plans_do_not_differ() -> None:
    assert compare_plans(document(), document()) == []


def test_values_and_lessons_that_differ_are_named_in_80_columns() -> None:
    before, after = document(), document()
    first, *_, last = after["modules"][0]["lessons"]
    first["homework"] = before["modules"][0]["lessons"][0]["homework"] + " And more."
    first["materials"].insert(0, "a bowl")
    first["activities"][1]["title"] = "New"
    first["provenance"] = {"generator": "other"}
    after["modules"][0]["lessons"].remove(last)
    changed, removed = compare_plans(before, after)
    assert (changed.number, changed.kind) == ("1.1", "changed")
    assert [(each.path, each.after) for each in changed.changes] == [
        ("materials/0", "a bowl"),
        ("activities/1/title", "New"),
        ("homework", first["homework"]),
    ]
    assert (removed.number, removed.kind) == (last["number"], "removed")
    lines = list(changed.lines())
    assert max(map(len, lines)) <= 80
    assert "And more." in lines[-1], "a late difference is seen"
    assert compare_plans(before, after, "1.2") == []
    assert compare_plans(after, before)[1].kind == "added"
