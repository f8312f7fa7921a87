"""Find the installed steps of completions, and build them with their settings."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from pydantic import BaseModel

from homeroom.completion.api import Completions, Step, StepArgs, StepContext
from homeroom.dispatch.api import MessageStep
from homeroom.dispatch.destinations import DestinationProfile
from homeroom.errors import ConfigurationError
from homeroom.jobs.api import Registry
from homeroom.settings import (
    Settings,
    StepSettings,
    load_step_settings,
    step_setting_names,
)

STEP_GROUP = "homeroom.completion_steps"
"""The group of entry points; ``pyproject.toml`` names those of Homeroom itself."""
_SETTING = "HOMEROOM_STEPS"
_OWN_STEPS = ("credential", "analytics", "hr", "xapi")
"""Their order in lists. They have to be there: no completion is to be recorded without them."""
_NAME = re.compile(r"[a-z][a-z0-9_]{0,31}")


@dataclass(frozen=True, slots=True)
class InstalledStep:
    """A step as it was found."""

    name: str
    source: str
    """The package with its version, or ``HOMEROOM_STEPS``."""
    step: type[Step]

    @property
    def description(self) -> str:
        """Return the first line of the class's docstring."""
        return (inspect.getdoc(self.step) or "").partition("\n")[0]


@dataclass(frozen=True, slots=True)
class BuiltSteps:
    """The steps of an application with the settings that they have read."""

    installed: tuple[InstalledStep, ...]
    steps: tuple[Step, ...]
    settings: tuple[StepSettings, ...]

    @property
    def message_steps(self) -> list[MessageStep]:
        """Return the steps that send messages."""
        return [step for step in self.steps if isinstance(step, MessageStep)]

    def destination_profiles(self) -> list[DestinationProfile]:
        """Return the destinations of the steps that send messages."""
        return [
            DestinationProfile(
                step.name,
                step.destination_kind,
                step.receiver is not None,
                step.rate,
                step=step.name,
            )
            for step in self.message_steps
        ]


def find_steps(settings: Settings) -> list[InstalledStep]:
    """Return the steps of installed packages and ``HOMEROOM_STEPS``, ours first.

    Raises ``ConfigurationError`` that names the step which cannot be used.
    """
    found: dict[str, InstalledStep] = {}
    for each in _load_steps(settings):
        _check(each)
        if each.name in found:
            reason = f"{found[each.name].source} has a step of that name"
            raise _unusable(each.name, each.source, reason)
        found[each.name] = each
    missing = [name for name in _OWN_STEPS if name not in found]
    if missing:
        raise ConfigurationError(
            f"The installed package of Homeroom does not name its steps: {', '.join(missing)}.",
            hint="Install it again, in a checkout with: make setup",
        )
    return [
        *(found.pop(name) for name in _OWN_STEPS),
        *(found[name] for name in sorted(found)),
    ]


def installed_setting_names(settings: Settings) -> list[str]:
    """Return the names of the settings of all steps; see ``find_steps`` for errors."""
    return [
        name
        for each in find_steps(settings)
        for name in step_setting_names(each.name, each.step.settings_model)
    ]


def check_installed_steps(settings: Settings) -> None:
    """Raise ``ConfigurationError`` for a step or its settings that cannot be used."""
    for each in find_steps(settings):
        _read_settings(each)


def build_steps(
    settings: Settings, context: StepContext, completions: Completions, registry: Registry
) -> BuiltSteps:
    """Build the installed steps with their settings; declare and register them.

    Raises ``ConfigurationError`` that names the step which cannot be used.
    """
    installed = find_steps(settings)
    steps, read = [], []
    for each in installed:
        own = _read_settings(each)
        try:
            steps.append(each.step(replace(context, settings=own.values)))
        except ConfigurationError:
            raise
        except Exception as error:  # whatever the plug-in's code raises
            raise _unusable(each.name, each.source, _describe(error)) from error
        read.append(own)
    try:
        completions.declare([step.declaration() for step in steps])
    except ValueError as error:
        raise ConfigurationError(f"The completion steps cannot be used: {error}.") from error
    for step in steps:
        completions.register(registry, step)
    return BuiltSteps(tuple(installed), tuple(steps), tuple(read))


def _load_steps(settings: Settings) -> Iterator[InstalledStep]:
    for point in entry_points(group=STEP_GROUP):
        source = "an unknown package"
        if point.dist is not None:
            source = f"{point.dist.name} {point.dist.version}"
        yield InstalledStep(point.name, source, _load(point, source))
    for target in settings.steps:
        class_name = target.rpartition(":")[2]
        step = _load(EntryPoint(class_name, target, STEP_GROUP), _SETTING)
        yield InstalledStep(str(getattr(step, "name", class_name)), _SETTING, step)


def _load(point: EntryPoint, source: str) -> type[Step]:
    try:
        loaded = point.load()
    except Exception as error:  # an import runs whatever code the module has
        raise _unusable(point.name, source, _describe(error)) from error
    if not (inspect.isclass(loaded) and issubclass(loaded, Step)) or inspect.isabstract(loaded):
        missing = ", ".join(sorted(getattr(loaded, "__abstractmethods__", ())))
        reason = f"it lacks {missing}" if missing else "it is no subclass of Step"
        raise _unusable(point.name, source, f"{point.value}: {reason}")
    return loaded


def _check(found: InstalledStep) -> None:
    """Raise ``ConfigurationError`` for a class that declares no usable step."""
    step: Any = found.step  # what a plug-in declares may be of any type
    fault, job = None, getattr(step, "job", None)
    if _NAME.fullmatch(found.name) is None:
        fault = "a name has lower-case letters, digits and _, 32 at most"
    elif getattr(step, "name", None) != found.name:
        fault = f"its class has the name {getattr(step, 'name', None)!r}"
    elif not (inspect.isclass(job) and issubclass(job, StepArgs)):
        fault = "its job is no subclass of StepArgs"
    elif getattr(job, "kind", None) != f"completion.{found.name}":
        fault = f"the kind of its job is not completion.{found.name}"
    elif not getattr(job, "queue", None):
        fault = "its job names no queue"
    elif not (inspect.isclass(step.settings_model) and issubclass(step.settings_model, BaseModel)):
        fault = "its settings_model is no pydantic model"
    if fault is not None:
        raise _unusable(found.name, found.source, fault)


def _read_settings(found: InstalledStep) -> StepSettings:
    try:
        return load_step_settings(found.name, found.step.settings_model)
    except ConfigurationError as error:
        raise ConfigurationError(
            f"The completion step {found.name} cannot be used: {error.message}", hint=error.hint
        ) from error


def _unusable(name: str, source: str, reason: str) -> ConfigurationError:
    return ConfigurationError(
        f"The completion step {name} of {source} cannot be used: {reason}.",
        hint="Correct or uninstall it; its steps are then skipped and resume when it is back.",
    )


def _describe(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".rstrip(". ")
