"""Message templates: title, text and HTML in the recipient's language.

The first line of a type's ``.txt`` is the title; the next paragraph is the summary, which the inbox
and short messages show. Templates run in Jinja's sandbox; files of the folder that the operator
names replace built-in ones, and those of a programme's folder replace both. A language is one file
``locale/xx.po``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from importlib import import_module
from pathlib import Path
from types import MappingProxyType
from typing import Any

from homeroom.notify.school import InlineImage, School

NOTIFY_DIR = Path(__file__).resolve().parent
DEFAULT_LANGUAGE = "en"
MESSAGE_TYPE_TITLES: Mapping[str, str] = {
    "log_reminder": "the reminder when a week's log is open",
    "deadline_warning": "the warning before a log is late",
    "manager_report": "the weekly report on logs",
    "late_log": "logs that are submitted late",
    "compliance_warning": "facilitators who repeatedly miss logs",
    "compliance_copy": "your own missing logs",
    "unmanaged_programme": "programmes without managers",
    "schedule_missed": "schedules that missed a run",
    "alert": "alerts about the running of Homeroom",
    "credential_issued": "courses that you have completed",
    "credential_expiring": "certificates that expire soon",
}
"""The title of each type as recipients read it; translated like the templates."""
MESSAGE_TYPE_CAUSES: Mapping[str, str] = {
    "log_reminder": "You receive this mail because you facilitate courses with a weekly log.",
    "deadline_warning": "You receive this mail because you facilitate courses with a weekly log.",
    "manager_report": "You receive this mail because you manage this programme.",
    "late_log": "You receive this mail because you manage this programme.",
    "compliance_warning": "You receive this mail because you manage this programme.",
    "compliance_copy": "You receive this mail because you facilitate courses with a weekly log.",
    "unmanaged_programme": "You receive this mail because you administer Homeroom.",
    "schedule_missed": "You receive this mail because you administer Homeroom.",
    "alert": "You receive this mail because you administer Homeroom.",
    "credential_issued": "You receive this mail because you have completed a course.",
    "credential_expiring": "You receive this mail because you have completed a course.",
    "bundle": "You receive this mail because several messages for you came together.",
}
"""The reason why its recipients get a mail of each type, in its footer; translated too."""


@dataclass(frozen=True, slots=True)
class RenderedMessage:
    """The texts of a message. ``html`` is a whole document."""

    title: str
    summary: str
    text: str
    html: str
    images: tuple[InlineImage, ...] = ()
    """The images that the HTML names."""
    reply_to: str | None = None
    """Mailbox for replies, of a school that has its own. None: that of the installation."""

    @property
    def page(self) -> str:
        """Return the HTML for a browser: with its images in it."""
        page = self.html
        for image in self.images:
            page = page.replace(f"cid:{image.content_id}", image.data_url)
        return page


@lru_cache(maxsize=1)
def list_languages() -> tuple[str, ...]:
    """Return the languages that have texts."""
    return (DEFAULT_LANGUAGE, *sorted(file.stem for file in (NOTIFY_DIR / "locale").glob("*.po")))


def match_language(locale: str | None) -> str:
    """Return the language for a locale tag, such as ``de`` for ``de-AT``."""
    language = (locale or DEFAULT_LANGUAGE).replace("_", "-").split("-")[0].lower()
    return language if language in list_languages() else DEFAULT_LANGUAGE


class MessageTemplates:
    """The templates of all types in all languages."""

    def __init__(
        self,
        folder: Path | None = None,
        sender: str = "Homeroom",
        postal_address: str | None = None,
        *,
        school: School | None = None,
        programmes: Mapping[str, School] = MappingProxyType({}),
    ) -> None:
        """Configure a folder that overrides built-in templates, and the sender.

        Name and postal address of the sender are in the footer of every mail. ``school`` is the
        sender with colour, logo and links; ``programmes`` has by id those that have their own.
        """
        self._folder = folder
        self._school = school or School(sender, postal_address)
        self._programmes = programmes

    @cached_property
    def _renderer(self) -> Any:
        """Load the renderer at the first message: until then its memory is saved."""
        return import_module("homeroom.notify.rendering").Renderer(
            self._folder, self._school, self._programmes
        )

    def render(
        self,
        name: str,
        params: Mapping[str, Any],
        *,
        locale: str | None = None,
        given_name: str | None = None,
        unsubscribe_url: str | None = None,
        with_body: bool = True,
        programme_id: str | None = None,
    ) -> RenderedMessage:
        """Return a message's texts; without ``with_body`` only the title and the summary.

        A message about a programme has the look and the templates of that programme. Raises
        ``jinja2.TemplateError`` for a faulty template of the operator's folder.
        """
        rendered: RenderedMessage = self._renderer.render(
            name,
            params,
            locale=locale,
            given_name=given_name,
            unsubscribe_url=unsubscribe_url,
            with_body=with_body,
            programme_id=programme_id,
        )
        return rendered

    def preview_page(self, rendered: RenderedMessage, *, locale: str | None) -> str:
        """Return a page with HTML and text of a message beside each other."""
        page: str = self._renderer.preview_page(rendered, locale=locale)
        return page

    def unsubscribe_page(
        self, message_type: str | None, *, locale: str | None, with_button: bool
    ) -> str:
        """Return the page of an unsubscribe link, before or after its button was used.

        Without ``message_type`` the page says that the link is not valid.
        """
        page: str = self._renderer.unsubscribe_page(
            message_type, locale=locale, with_button=with_button
        )
        return page
