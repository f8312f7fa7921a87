"""Every setting of Homeroom, read from the environment once, by ``wiring`` and the CLI only.

A setting's name in the environment is ``HOMEROOM_`` and the field's name in capitals, but for the
few that keep the name that others gave them (``REDIS_HOST``, ``ENABLE_CREDENTIALS``). What can only
be judged by looking at several settings, or at the machine, is in ``problems``.
"""

from homeroom.settings.check import Problem, problems
from homeroom.settings.model import Settings, load
from homeroom.settings.view import SettingView, view

__all__ = ["Problem", "SettingView", "Settings", "load", "problems", "view"]
