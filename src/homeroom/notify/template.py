"""Put messages into words: title, text and HTML in somebody's language and time.

The first line of a type's ``.txt`` is the title, the paragraph after it the summary that the inbox
and short messages show. Templates run in Jinja's sandbox; a folder of one's own may replace any of
them. A language is one file ``locale/xx.po``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from functools import lru_cache
from io import BytesIO
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import css_inline
from babel import Locale, UnknownLocaleError
from babel.dates import format_date, format_interval
from babel.lists import format_list
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po
from babel.support import NullTranslations, Translations
from jinja2 import ChoiceLoader, FileSystemLoader, StrictUndefined
from jinja2.sandbox import SandboxedEnvironment

from homeroom.clock import to_datetime

HERE = Path(__file__).resolve().parent
DEFAULT = "en"
_BLANK_LINES = re.compile(r"\n{3,}")


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


def _locale(tag: str | None, language: str) -> Locale:
    """Return the locale that dates are written in: the person's own, if it is of the language."""
    try:
        found = Locale.parse((tag or language).replace("-", "_"))
    except (UnknownLocaleError, ValueError):
        return Locale.parse(language)
    return found if found.language == language else Locale.parse(language)


def _translations(language: str) -> NullTranslations:
    if language == DEFAULT:
        return NullTranslations()
    compiled = BytesIO()
    with (HERE / "locale" / f"{language}.po").open("rb") as file:
        write_mo(compiled, read_po(file, locale=language))
    compiled.seek(0)
    return Translations(compiled)


class Templates:
    """All templates, in all languages."""

    def __init__(self, folder: Path | None = None, sender: str = "Homeroom") -> None:
        """Take a folder whose templates go before the built-in ones, and who the mails are from."""
        folders = [HERE / "templates"] if folder is None else [folder, HERE / "templates"]
        self._loader = ChoiceLoader([FileSystemLoader(each) for each in folders])
        self._environments: dict[Locale, tuple[SandboxedEnvironment, NullTranslations]] = {}
        self._inliner = css_inline.CSSInliner(load_remote_stylesheets=False)
        self._sender = sender

    def _environment(self, tag: str | None) -> tuple[SandboxedEnvironment, NullTranslations]:
        language = language_of(tag)
        locale = _locale(tag, language)
        if locale not in self._environments:
            environment = SandboxedEnvironment(
                loader=self._loader,
                extensions=["jinja2.ext.i18n"],
                autoescape=lambda name: name is not None and name.endswith(".html"),
                undefined=StrictUndefined,
            )
            said = _translations(language)
            environment.install_gettext_callables(  # type: ignore[attr-defined]  # the extension's
                said.gettext, said.ngettext, newstyle=True
            )
            environment.filters.update(_filters(locale))
            environment.globals["language"] = language
            self._environments[locale] = environment, said
        return self._environments[locale]

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
        environment, said = self._environment(locale)
        known = {**params, "given_name": given_name}
        text = environment.get_template(f"{name}.txt").render(known)
        title, _, rest = text.strip().partition("\n")
        summary = " ".join(rest.strip().split("\n\n")[0].split())
        if not whole:
            return Words(title, summary, "", "")
        footer = said.gettext("This mail was sent by %(sender)s.") % {"sender": self._sender}
        html = environment.get_template(f"{name}.html").render(
            known | {"title": title, "footer": footer, "stop_url": stop_url}
        )
        plain = _BLANK_LINES.sub("\n\n", rest.strip())
        if stop_url is not None:
            footer += f"\n{said.gettext('Stop mails of this kind')}: {stop_url}"
        return Words(title, summary, f"{plain}\n\n-- \n{footer}\n", self._inliner.inline(html))

    def stop_page(self, kind: str | None, *, locale: str | None, ask: bool) -> str:
        """Return the page behind a mail's link: with a button, or after it was pressed.

        Without ``kind`` the link is not one of ours.
        """
        environment, said = self._environment(locale)
        say = said.gettext
        if kind is None:
            title = say("This link is not valid")
            text = say("It may have been cut off on its way. Nothing was changed.")
        elif ask:
            title = say("Stop mails of this kind?")
            text = say("You get mails about: %(name)s.") % {"name": say(KIND_TITLES[kind])}
        else:
            title = say("You get no such mails any more")
            text = say("It was about: %(name)s. Your inbox still shows them.")
            text = text % {"name": say(KIND_TITLES[kind])}
        page = environment.get_template("stop.html")
        return page.render(title=title, text=text, ask=ask and kind is not None)


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


def _filters(locale: Locale) -> dict[str, Any]:
    def here(instant: int, time_zone: str) -> datetime:
        return to_datetime(instant).astimezone(ZoneInfo(time_zone))

    def moment(instant: int, time_zone: str) -> str:
        when = here(instant, time_zone)
        return f"{format_date(when, 'medium', locale=locale)}, {when:%H:%M}"

    def deadline(instant: int, time_zone: str) -> str:
        """Return the last minute that is on time: midnight is shown as the day before, 23:59."""
        last = here(instant, time_zone) - timedelta(minutes=1)
        return f"{format_date(last, 'full', locale=locale)}, {last:%H:%M}"

    def week_name(key: str) -> str:
        year, number = key.split("-W")
        monday = date.fromisocalendar(int(year), int(number), 1)
        return format_interval(monday, monday + timedelta(days=6), "MMMd", locale=locale)

    def week_names(keys: list[str]) -> str:
        return format_list([week_name(key) for key in keys], locale=locale)

    return {
        "moment": moment,
        "deadline": deadline,
        "week_name": week_name,
        "week_names": week_names,
    }
