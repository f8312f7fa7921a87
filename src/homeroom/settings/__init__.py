"""All settings, read from the environment once, by ``bootstrap`` and the CLI.

The name of a setting in the environment is ``HOMEROOM_`` and the field's name in capitals. A few
have the name by which other programs know them (``REDIS_HOST``, ``ENABLE_CREDENTIALS``).
Checks that compare several settings, or inspect the machine, are in ``find_setting_problems``.
"""

from homeroom.settings.check import find_setting_problems
from homeroom.settings.listing import SettingEntry, list_settings
from homeroom.settings.model import Settings, load
from homeroom.settings.problem import SettingProblem
from homeroom.settings.step_settings import (
    StepSettings,
    list_step_settings,
    load_step_settings,
    step_group,
    step_setting_names,
)

__all__ = [
    "SettingEntry",
    "SettingProblem",
    "Settings",
    "StepSettings",
    "find_setting_problems",
    "list_settings",
    "list_step_settings",
    "load",
    "load_step_settings",
    "step_group",
    "step_setting_names",
]
