"""Show the settings without what is secret in them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from pydantic import SecretStr

from homeroom.settings.model import GROUPS, Settings, env_name

HIDDEN = "********"


@dataclass(frozen=True, slots=True)
class SettingView:
    """One setting as it may be shown: secrets hidden, passwords in URLs too."""

    name: str
    group: str
    value: str | None
    default: str
    is_set: bool
    secret: bool
    description: str


def view(settings: Settings) -> list[SettingView]:
    """Return every setting in its group's order, with nothing secret in it."""
    return [
        SettingView(
            name=env_name(field, info),
            group=(group.__doc__ or "").split(".")[0],
            value=_shown(getattr(settings, field)),
            default=_shown(info.default) or "unset",
            is_set=field in settings.model_fields_set,
            secret="SecretStr" in str(info.annotation),
            description=info.description or "",
        )
        for group in GROUPS
        for field, info in group.model_fields.items()
    ]


def _shown(value: Any) -> str | None:
    if value is None or value == ():
        return None
    if isinstance(value, SecretStr):
        return HIDDEN
    if isinstance(value, timedelta):
        seconds = value.total_seconds()
        return f"{seconds:g}s" if seconds % 86_400 or not seconds else f"{seconds / 86_400:g}d"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return ",".join(value)
    text = str(value)
    if "://" in text and (parts := urlsplit(text)).password:
        netloc = f"{parts.username or ''}:{HIDDEN}@{parts.netloc.rpartition('@')[2]}"
        return urlunsplit(parts._replace(netloc=netloc))
    return text
