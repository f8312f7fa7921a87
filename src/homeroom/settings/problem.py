"""A problem of a setting, with its fix."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class SettingProblem:
    """One problem and its fix; an ``error`` prevents a server from starting."""

    setting: str
    message: str
    fix: str
    severity: Literal["error", "warning"] = "error"
