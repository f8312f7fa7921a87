"""Render the templates of messages in somebody's language and time.

``notify.template`` loads this file for the first message: what renders takes some megabytes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import date, datetime, timedelta
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
from homeroom.notify.template import DEFAULT, HERE, KIND_TITLES, Words, language_of

_BLANK_LINES = re.compile(r"\n{3,}")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


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


def _in_lines(given: Any) -> Any:
    """Return params whose texts are a line each: a title's line break would end the subject.

    What comes in by HTTP is looked at there; what is stored may be older.
    """
    if isinstance(given, str):
        return " ".join(_CONTROL.sub(" ", given).split())
    if isinstance(given, Mapping):
        return {name: _in_lines(value) for name, value in given.items()}
    if isinstance(given, list | tuple):
        return [_in_lines(each) for each in given]
    return given


class Renderer:
    """All templates, in all languages, as ``Templates`` offers them."""

    def __init__(self, folder: Path | None, sender: str) -> None:
        """Take what ``Templates`` was given."""
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
        locale: str | None,
        given_name: str | None,
        stop_url: str | None,
        whole: bool,
    ) -> Words:
        """Return a message in words."""
        environment, said = self._environment(locale)
        known = _in_lines({**params, "given_name": given_name})
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
        """Return the page behind a mail's link."""
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
