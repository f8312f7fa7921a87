"""Rendering of message templates in the recipient's language and time zone.

``notify/template.py`` loads this module at the first message: its libraries take some megabytes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import date, datetime, timedelta
from io import BytesIO
from pathlib import Path
from typing import Any, Literal
from zoneinfo import ZoneInfo

import css_inline
from babel import Locale, UnknownLocaleError
from babel.dates import format_date, format_interval, format_time, get_timezone_name
from babel.lists import format_list
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po
from babel.support import NullTranslations, Translations
from jinja2 import BaseLoader, ChoiceLoader, FileSystemLoader, StrictUndefined
from jinja2.sandbox import SandboxedEnvironment

from homeroom.instant import to_datetime
from homeroom.notify.message_texts import (
    DEFAULT_LANGUAGE,
    MESSAGE_TYPE_CAUSES,
    MESSAGE_TYPE_TITLES,
    NOTIFY_DIR,
    RenderedMessage,
    match_language,
)
from homeroom.notify.school import LOGO_CONTENT_ID, School

_BLANK_LINES = re.compile(r"\n{3,}")
_ASCII_PUNCTUATION = str.maketrans({"\u2010": "-", "\u2011": "-", "\u2013": "-", "\u2019": "'"})
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")

_LOGO_URL = f"cid:{LOGO_CONTENT_ID}"
_MINUTE_US = 60_000_000


class Renderer:
    """Renderer of all templates in all languages, behind ``MessageTemplates``."""

    def __init__(
        self, folder: Path | None, school: School, programmes: Mapping[str, School]
    ) -> None:
        """Configure the overriding folder, the school, and programmes of their own."""
        self._folder, self._school, self._programmes = folder, school, programmes
        self._environments: dict[
            tuple[Locale, School], tuple[SandboxedEnvironment, NullTranslations]
        ] = {}
        self._inliner = css_inline.CSSInliner(load_remote_stylesheets=False, keep_at_rules=True)

    def render(
        self,
        name: str,
        params: Mapping[str, Any],
        *,
        locale: str | None,
        given_name: str | None,
        unsubscribe_url: str | None,
        with_body: bool,
        programme_id: str | None,
    ) -> RenderedMessage:
        """Return a message's texts."""
        school = self._programmes.get(programme_id or "", self._school)
        environment, translations = self._environment(locale, school)
        gettext = translations.gettext
        values = _flatten_line_breaks({**params, "given_name": given_name})
        text = environment.get_template(f"{name}.txt").render(values)
        first_line, _, rest = text.strip().partition("\n")
        title = _to_subject(first_line)
        summary = " ".join(rest.strip().split("\n\n")[0].split())
        if not with_body:
            return RenderedMessage(title, summary, "", "")
        greeting = (
            gettext("Hello %(name)s,") % {"name": values["given_name"]}
            if given_name
            else gettext("Hello,")
        )
        cause = gettext(MESSAGE_TYPE_CAUSES[name])
        sent_by = gettext("This mail was sent by %(sender)s.") % {"sender": school.signature}
        # Templates of operators use these names: they do not change.
        html = environment.get_template(f"{name}.html").render(
            values | {"title": title, "footer": f"{cause} {sent_by}", "stop_url": unsubscribe_url}
        )
        footer = f"{cause}\n{sent_by}"
        body = _BLANK_LINES.sub("\n\n", rest.strip())
        if unsubscribe_url is not None:
            footer += f"\n{gettext('Unsubscribe from these mails')}: {unsubscribe_url}"
        html = self._inliner.inline(html)
        return RenderedMessage(
            title,
            summary,
            f"{greeting}\n\n{body}\n\n-- \n{footer}\n",
            html,
            () if school.logo is None or _LOGO_URL not in html else (school.logo,),
            school.reply_to,
        )

    def preview_page(self, rendered: RenderedMessage, *, locale: str | None) -> str:
        """Return a page with HTML and text of a message beside each other."""
        environment, _ = self._environment(locale, self._school)
        return environment.get_template("preview.html").render(rendered=rendered)

    def unsubscribe_page(
        self, message_type: str | None, *, locale: str | None, with_button: bool
    ) -> str:
        """Return the page of an unsubscribe link."""
        environment, translations = self._environment(locale, self._school)
        gettext = translations.gettext
        if message_type is None:
            title = gettext("This link is not valid")
            text = gettext("It may have been cut off in transit. Nothing was changed.")
        elif with_button:
            title = gettext("Unsubscribe from these mails?")
            text = gettext("You receive mails about: %(name)s.")
            text = text % {"name": gettext(MESSAGE_TYPE_TITLES[message_type])}
        else:
            title = gettext("You are unsubscribed")
            text = gettext("You no longer receive mails about: %(name)s. Your inbox shows them.")
            text = text % {"name": gettext(MESSAGE_TYPE_TITLES[message_type])}
        page = environment.get_template("stop.html")
        return page.render(title=title, text=text, ask=with_button and message_type is not None)

    def _environment(
        self, tag: str | None, school: School
    ) -> tuple[SandboxedEnvironment, NullTranslations]:
        language = match_language(tag)
        locale = _date_locale(tag, language)
        key = locale, school
        if key not in self._environments:
            environment = SandboxedEnvironment(
                loader=self._loader(school),
                extensions=["jinja2.ext.i18n"],
                autoescape=lambda name: name is not None and name.endswith(".html"),
                undefined=StrictUndefined,
            )
            translations = _load_translations(language)
            environment.install_gettext_callables(  # type: ignore[attr-defined]  # the extension's
                translations.gettext, translations.ngettext, newstyle=True
            )
            environment.filters.update(_filters(locale))
            environment.globals.update(_school_globals(school), language=language)
            self._environments[key] = environment, translations
        return self._environments[key]

    def _loader(self, school: School) -> BaseLoader:
        folders = (school.templates, self._folder, NOTIFY_DIR / "templates")
        return ChoiceLoader([FileSystemLoader(each) for each in folders if each is not None])


def _school_globals(school: School) -> dict[str, Any]:
    """Return what templates know of the school.

    Templates of operators use these names: they do not change.
    """
    return {
        "school": {
            "name": school.name,
            "colour": school.colour,
            "textColour": school.text_colour,
            "linkColour": school.link_colour,
            "logoUrl": None if school.logo is None else _LOGO_URL,
        },
        "link_to_logs": school.link_to_logs,
        "link_to_programme": school.link_to_programme,
        "link_to_facilitator": school.link_to_facilitator,
    }


def _date_locale(tag: str | None, language: str) -> Locale:
    """Return the locale of dates: the recipient's if it has the text's language."""
    try:
        locale = Locale.parse((tag or language).replace("-", "_"))
    except (UnknownLocaleError, ValueError):
        return Locale.parse(language)
    return locale if locale.language == language else Locale.parse(language)


def _load_translations(language: str) -> NullTranslations:
    if language == DEFAULT_LANGUAGE:
        return NullTranslations()
    compiled = BytesIO()
    with (NOTIFY_DIR / "locale" / f"{language}.po").open("rb") as file:
        write_mo(compiled, read_po(file, locale=language))
    compiled.seek(0)
    return Translations(compiled)


def _to_subject(line: str) -> str:
    """Return a title in ASCII where only its spaces and punctuation are beyond it.

    One thin space in a date makes the whole subject an encoded word (RFC 2047).
    """
    title = " ".join(line.split())
    plain = title.translate(_ASCII_PUNCTUATION)
    return plain if plain.isascii() else title


def _flatten_line_breaks(value: Any) -> Any:
    """Return params with texts of one line each: a line break would end a subject.

    The HTTP routes validate new texts; stored ones may be older than that check.
    """
    if isinstance(value, str):
        return " ".join(_CONTROL.sub(" ", value).split())
    if isinstance(value, Mapping):
        return {name: _flatten_line_breaks(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_flatten_line_breaks(each) for each in value]
    return value


def _filters(locale: Locale) -> dict[str, Any]:
    def to_local(instant: int, time_zone: str) -> datetime:
        return to_datetime(instant).astimezone(ZoneInfo(time_zone))

    def format_moment(local: datetime, date_format: Literal["full", "medium"]) -> str:
        day = format_date(local, date_format, locale=locale)
        time = format_time(local, "short", tzinfo=local.tzinfo, locale=locale)
        return f"{day}, {time} {get_timezone_name(local, 'long', locale=locale)}"

    def moment(instant: int, time_zone: str) -> str:
        return format_moment(to_local(instant, time_zone), "medium")

    def deadline(instant: int, time_zone: str) -> str:
        """Return the last minute before a deadline: midnight is shown as 23:59."""
        # Subtracted before the conversion: the clock may have changed within that minute.
        return format_moment(to_local(instant - _MINUTE_US, time_zone), "full")

    def day(instant: int) -> str:
        """Return the day of an instant in UTC, as certificates show it."""
        return format_date(to_datetime(instant), "long", locale=locale)

    def week_name(key: str) -> str:
        year, number = key.split("-W")
        monday = date.fromisocalendar(int(year), int(number), 1)
        return format_interval(monday, monday + timedelta(days=6), "MMMd", locale=locale)

    def week_names(keys: list[str]) -> str:
        return format_list([week_name(key) for key in keys], locale=locale)

    def name_list(people: list[Mapping[str, str]]) -> str:
        return format_list([each["name"] for each in people], locale=locale)

    return {
        "day": day,
        "moment": moment,
        "deadline": deadline,
        "name_list": name_list,
        "week_name": week_name,
        "week_names": week_names,
    }
