"""Put messages into words: title, text and HTML in somebody's language and time.

The first line of a type's ``.txt`` is the title, the paragraph after it the summary that the inbox
and short messages show. Templates run in Jinja's sandbox; a folder of one's own may replace any of
them. A language is one file ``locale/xx.po``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from importlib import import_module
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
DEFAULT = "en"


@dataclass(frozen=True, slots=True)
class Words:
    """A message in words. ``html`` is a whole document."""

    title: str
    summary: str
    text: str
    html: str


@lru_cache(maxsize=1)
def languages() -> tuple[str, ...]:
    """Return the languages that there are words for."""
    return (DEFAULT, *sorted(file.stem for file in (HERE / "locale").glob("*.po")))


def language_of(locale: str | None) -> str:
    """Return the language for somebody's locale tag, such as ``de`` for ``de-AT``."""
    language = (locale or DEFAULT).replace("_", "-").split("-")[0].lower()
    return language if language in languages() else DEFAULT


class Templates:
    """All templates, in all languages."""

    def __init__(self, folder: Path | None = None, sender: str = "Homeroom") -> None:
        """Take a folder whose templates go before the built-in ones, and who the mails are from."""
        self._folder, self._sender = folder, sender

    @cached_property
    def _renderer(self) -> Any:
        """Load what renders for the first message: a server without any does not need it."""
        return import_module("homeroom.notify.rendering").Renderer(self._folder, self._sender)

    def words(
        self,
        name: str,
        params: Mapping[str, Any],
        *,
        locale: str | None = None,
        given_name: str | None = None,
        stop_url: str | None = None,
        whole: bool = True,
    ) -> Words:
        """Return a message in words; without ``whole`` only title and summary.

        Raises ``jinja2.TemplateError`` for a template of one's own that is faulty.
        """
        words: Words = self._renderer.words(
            name, params, locale=locale, given_name=given_name, stop_url=stop_url, whole=whole
        )
        return words

    def stop_page(self, kind: str | None, *, locale: str | None, ask: bool) -> str:
        """Return the page behind a mail's link: with a button, or after it was pressed.

        Without ``kind`` the link is not one of ours.
        """
        page: str = self._renderer.stop_page(kind, locale=locale, ask=ask)
        return page


KIND_TITLES: Mapping[str, str] = {
    "log_reminder": "the reminder when a week's log is open",
    "deadline_warning": "the warning before a log is late",
    "manager_report": "the weekly report on logs",
    "late_log": "logs that come late",
    "compliance_warning": "facilitators who miss logs again and again",
    "compliance_copy": "logs of one's own that are missing",
    "unmanaged_programme": "programmes without managers",
    "schedule_missed": "schedules that missed a run",
}
"""What people read for a type; translated like the templates."""
