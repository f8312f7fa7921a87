"""The texts that messages of all types share: titles, causes, languages."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from homeroom.notify.school import InlineImage

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
