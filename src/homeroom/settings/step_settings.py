"""The settings of steps that are plug-ins: ``HOMEROOM_STEP_{NAME}_{FIELD}``."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from homeroom.errors import ConfigurationError
from homeroom.settings.invalid_values import describe_fault
from homeroom.settings.listing import SettingEntry, list_group
from homeroom.settings.model import ENV_PREFIX


@dataclass(frozen=True, slots=True)
class StepSettings:
    """The settings of one step."""

    step: str
    values: BaseModel
    """An instance of the step's own model."""


def step_prefix(step: str) -> str:
    """Return the start of the names of a step's settings in the environment."""
    return f"{ENV_PREFIX}STEP_{step.upper()}_"


def step_group(step: str) -> str:
    """Return the group of a step's settings in lists."""
    return f"Step {step}"


def step_setting_names(step: str, model: type[BaseModel]) -> list[str]:
    """Return the names of a step's settings in the environment."""
    return [step_prefix(step) + field.upper() for field in model.model_fields]


def load_step_settings(step: str, model: type[BaseModel]) -> StepSettings:
    """Read a step's settings; raise ``ConfigurationError`` for invalid ones.

    Values are text, as in the environment; a list or an object is written as JSON. An empty value
    is an unset one.
    """
    config = SettingsConfigDict(
        env_prefix=step_prefix(step),
        env_ignore_empty=True,
        extra="ignore",
        frozen=True,
        hide_input_in_errors=True,  # a wrong secret must not end up in a log
    )
    namespace: dict[str, Any] = {"model_config": config, "__module__": model.__module__}
    reader = type(model.__name__, (model, BaseSettings), namespace)
    try:
        return StepSettings(step, reader())
    except ValidationError as error:
        named = [
            (step_prefix(step) + field.upper(), field, info)
            for field, info in model.model_fields.items()
        ]
        lines = [describe_fault(fault, named) for fault in error.errors(include_url=False)]
        raise ConfigurationError(
            "; ".join(lines) + ".",
            hint=f"`homeroom completions steps` lists the settings of the step {step}.",
        ) from None


def list_step_settings(steps: Iterable[StepSettings]) -> list[SettingEntry]:
    """Return the settings of steps in the form of ``list_settings``, secrets hidden."""
    entries: list[SettingEntry] = []
    for each in steps:
        model = next(base for base in type(each.values).__mro__[1:] if issubclass(base, BaseModel))
        prefix = step_prefix(each.step)
        names = {field: prefix + field.upper() for field in model.model_fields}
        entries += list_group(each.values, model.model_fields, names, step_group(each.step))
    return entries
