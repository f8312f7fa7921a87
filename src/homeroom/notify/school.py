"""The school as its mails show it: name, address, colour, logo, links."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

DEFAULT_COLOUR = "#0b6b5d"
LOGO_CONTENT_ID = "logo@homeroom"
_PAPER = "#f2f4f5"
_INK = "#1d2529"
_READABLE_CONTRAST = 4.5
"""WCAG 2.2, success criterion 1.4.3 (AA)."""


@dataclass(frozen=True, slots=True)
class InlineImage:
    """An image that is part of a mail; its HTML names it by ``cid:`` (RFC 2392)."""

    content_id: str
    media_type: str
    """Such as ``image/png``."""
    data: bytes

    @property
    def data_url(self) -> str:
        """Return the image as a URL, for a page that is no mail."""
        return f"data:{self.media_type};base64,{base64.b64encode(self.data).decode()}"


@dataclass(frozen=True, slots=True)
class School:
    """The school, or its part that runs one programme."""

    name: str = "Homeroom"
    address: str | None = None
    """Postal address, on one line."""
    colour: str = DEFAULT_COLOUR
    """``#rrggbb``: the line above a mail, its buttons and links."""
    reply_to: str | None = None
    """Mailbox for replies. None: that of the installation."""
    logo: InlineImage | None = None
    programme_link: str | None = None
    """Page of a programme, with ``{programme}`` and ``{week}`` in it. None: no link."""
    facilitator_link: str | None = None
    """Page of one facilitator of a programme, with ``{user}`` besides. None: no link."""
    log_link: str | None = None
    """Page on which facilitators write logs, with ``{programme}`` and ``{week}`` in it, for
    programmes without one of their own."""
    templates: Path | None = None
    """Folder of templates that go before those of the installation."""

    @property
    def signature(self) -> str:
        """Return name and postal address on one line."""
        return self.name if self.address is None else f"{self.name}, {self.address}"

    @property
    def text_colour(self) -> str:
        """Return the colour of text on the school's colour: white or black."""
        is_readable = contrast("#ffffff", self.colour) >= _READABLE_CONTRAST
        return "#ffffff" if is_readable else "#000000"

    @property
    def link_colour(self) -> str:
        """Return the school's colour if links in it can be read, else that of text."""
        return self.colour if contrast(self.colour, _PAPER) >= _READABLE_CONTRAST else _INK

    def link_to_programme(self, programme_id: str, week: str) -> str | None:
        """Return the address of a programme's page in a week such as ``2026-W48``."""
        return _fill(self.programme_link, programme=programme_id, week=week)

    def link_to_logs(self, programme_id: str, week: str) -> str | None:
        """Return the address on which the log of a week is written."""
        return _fill(self.log_link, programme=programme_id, week=week)

    def link_to_facilitator(self, programme_id: str, week: str, user_id: str) -> str | None:
        """Return the address of the page of a facilitator, or that of the programme."""
        filled = _fill(self.facilitator_link, programme=programme_id, week=week, user=user_id)
        return filled or self.link_to_programme(programme_id, week)


def _fill(link: str | None, **values: str) -> str | None:
    if link is None:
        return None
    for name, value in values.items():
        link = link.replace(f"{{{name}}}", quote(value, safe=""))
    return link


def contrast(one: str, other: str) -> float:
    """Return the contrast of two ``#rrggbb`` colours, from 1 to 21 (WCAG 2.2)."""
    dark, light = sorted((_luminance(one), _luminance(other)))
    return (light + 0.05) / (dark + 0.05)


def _luminance(colour: str) -> float:
    channels = [int(colour[start : start + 2], 16) / 255 for start in (1, 3, 5)]
    red, green, blue = (
        each / 12.92 if each <= 0.04045 else ((each + 0.055) / 1.055) ** 2.4 for each in channels
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue
