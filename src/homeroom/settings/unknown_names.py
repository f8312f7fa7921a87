"""Names in the environment that look like settings and are none."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from difflib import get_close_matches

from homeroom.settings.problem import SettingProblem

_NEAR = 0.85
"""Similarity from which a name is meant for another; all settings share their prefix."""


def unknown_setting_problems(
    names: Iterable[str], known: Collection[str], prefix: str
) -> list[SettingProblem]:
    """Return a warning for each name with the prefix of settings that is not known."""
    by_rest = {name.removeprefix(prefix): name for name in known}
    problems = []
    for name in sorted(names):
        if name.startswith(prefix) and name not in known:
            near = get_close_matches(name.removeprefix(prefix), by_rest, n=1, cutoff=_NEAR)
            fix = (
                f"Did you mean {by_rest[near[0]]}?"
                if near
                else "`homeroom docs settings` lists all settings."
            )
            problems.append(SettingProblem(name, "There is no such setting.", fix, "warning"))
    return problems
