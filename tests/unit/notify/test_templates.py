"""Every type is rendered in every language, escaped in HTML and complete in text."""

from __future__ import annotations

from pathlib import Path

import pytest
from babel.messages.extract import extract
from babel.messages.pofile import read_po
from jinja2.exceptions import SecurityError

from homeroom.notify.api import (
    EXAMPLE_PARAMS,
    MESSAGE_TYPE_TITLES,
    MESSAGE_TYPES,
    MessageTemplates,
    list_languages,
)
from homeroom.notify.message_texts import MESSAGE_TYPE_CAUSES, NOTIFY_DIR, match_language

KEYWORDS = {"_": None, "gettext": None, "ngettext": (1, 2)}
OPTIONS = {"newstyle_gettext": "true"}


def translatable_texts() -> set[object]:
    """Return all texts of the templates and of the renderer."""
    found: set[object] = {*MESSAGE_TYPE_TITLES.values(), *MESSAGE_TYPE_CAUSES.values()}
    for file in (NOTIFY_DIR / "templates").iterdir():
        with file.open("rb") as opened:
            method = "jinja2.ext:babel_extract"
            found |= {each[1] for each in extract(method, opened, KEYWORDS, options=OPTIONS)}
    with (NOTIFY_DIR / "rendering.py").open("rb") as opened:
        found |= {each[1] for each in extract("python", opened, KEYWORDS)}
    return found


@pytest.mark.parametrize("language", [each for each in list_languages() if each != "en"])
def test_a_language_translates_all_texts_and_no_others(language: str) -> None:
    with (NOTIFY_DIR / "locale" / f"{language}.po").open("rb") as file:
        catalog = read_po(file, locale=language)
    known = {message.id: message for message in catalog if message.id}
    assert known.keys() == translatable_texts()
    for message in known.values():
        assert message.string, message.id
        assert all(message.string), message.id
        assert not message.fuzzy, message.id
        assert [str(error) for error in message.check(catalog)] == []


@pytest.mark.parametrize("language", list_languages())
@pytest.mark.parametrize("type", MESSAGE_TYPES)
def test_every_type_is_rendered(type: str, language: str) -> None:
    rendered = MessageTemplates().render(
        type,
        EXAMPLE_PARAMS[type],
        locale=language,
        given_name="Ada",
        unsubscribe_url="https://x.example/u/t",
    )
    assert "\n" not in rendered.title
    assert 0 < len(rendered.title) < 120
    assert rendered.summary in " ".join(rendered.text.split())
    assert f'lang="{language}"' in rendered.html
    assert "https://x.example/u/t" in rendered.html
    assert "https://x.example/u/t" in rendered.text
    assert (
        MessageTemplates()
        .render(type, EXAMPLE_PARAMS[type], locale=language, with_body=False)
        .title
        == rendered.title
    )


def test_the_footer_says_why_and_by_whom_a_mail_was_sent() -> None:
    templates = MessageTemplates(None, "Lernhaus <Mitte>", "Hauptstr. 1, 10115 Berlin")
    rendered = templates.render("manager_report", EXAMPLE_PARAMS["manager_report"])
    cause = MESSAGE_TYPE_CAUSES["manager_report"]
    sender = "Lernhaus <Mitte>, Hauptstr. 1, 10115 Berlin"
    assert f"\n-- \n{cause}\nThis mail was sent by {sender}.\n" in rendered.text
    assert cause in rendered.html
    assert "Lernhaus &lt;Mitte&gt;, Hauptstr. 1, 10115 Berlin" in rendered.html
    assert MESSAGE_TYPE_CAUSES.keys() == {*MESSAGE_TYPES, "bundle"}


def test_names_are_escaped_in_html() -> None:
    params = {**EXAMPLE_PARAMS["late_log"], "offering": "<script>alert(1)</script>"}
    rendered = MessageTemplates().render("late_log", params)
    assert "<script>" not in rendered.html
    assert "&lt;script&gt;" in rendered.html
    assert "<script>" in rendered.text


@pytest.mark.parametrize(
    ("locale", "time_zone", "deadline"),
    [
        ("en-GB", "Europe/Berlin", "29 November 2026, 23:59 Central European Standard Time"),
        ("en-US", "America/New_York", "November 29, 2026, 5:59 PM Eastern Standard Time"),
        ("de-AT", "Europe/Berlin", "29. November 2026, 23:59 Mitteleuropäische Normalzeit"),
        ("fr-CA", "Europe/Berlin", "29 novembre 2026, 23 h 59 heure normale de l"),
        ("es", "Europe/Berlin", "29 de noviembre de 2026, 23:59 hora estándar de Europa central"),
        ("en-GB", "Asia/Kolkata", "30 November 2026, 04:29 GMT+05:30"),
    ],
)
def test_dates_have_the_format_of_the_recipients_country_and_name_the_zone(
    locale: str, time_zone: str, deadline: str
) -> None:
    params = {**EXAMPLE_PARAMS["log_reminder"], "timeZone": time_zone}
    assert deadline in MessageTemplates().render("log_reminder", params, locale=locale).summary


def test_a_deadline_in_the_night_of_a_clock_change_is_a_minute_earlier() -> None:
    params = {**EXAMPLE_PARAMS["log_reminder"], "deadlineAt": 1_792_890_000_000_000}
    summary = MessageTemplates().render("log_reminder", params, locale="en-GB").summary
    assert "25 October 2026, 02:59 Central European Summer Time" in summary


@pytest.mark.parametrize("type", MESSAGE_TYPES)
def test_a_subject_is_ascii_where_only_punctuation_is_beyond_it(type: str) -> None:
    for language in list_languages():
        for tag in (language, "en-GB", "fr-CA"):
            title = MessageTemplates().render(type, EXAMPLE_PARAMS[type], locale=tag).title
            assert title.isascii() or any(each.isalpha() and not each.isascii() for each in title)
            assert not {"\u00a0", "\u2009", "\u202f"} & {*title}
            assert title.isascii() or tag not in ("en", "en-GB")


@pytest.mark.parametrize("type", MESSAGE_TYPES)
def test_every_mail_greets_its_recipient_once(type: str) -> None:
    for name, greeting in (("Zoë", "Hello Zoë,"), (None, "Hello,")):
        rendered = MessageTemplates().render(type, EXAMPLE_PARAMS[type], given_name=name)
        assert rendered.text.startswith(f"{greeting}\n\n{rendered.summary[:20]}")
        assert rendered.html.count(f"{greeting}</p>") == 1


def test_an_unknown_language_falls_back_to_english() -> None:
    assert [match_language(tag) for tag in ("de-AT", "fr-CA", "es", "it", None, "x!")] == [
        "de",
        "fr",
        "es",
        "en",
        "en",
        "en",
    ]


def test_templates_of_the_operator_override_and_run_in_the_sandbox(tmp_path: Path) -> None:
    (tmp_path / "late_log.txt").write_text("Late: {{ name }}\n\nSee there.")
    assert (
        MessageTemplates(tmp_path).render("late_log", EXAMPLE_PARAMS["late_log"]).title
        == "Late: Ben Li"
    )
    (tmp_path / "late_log.txt").write_text("{{ name.__class__.__mro__ }}\n\nx")
    with pytest.raises(SecurityError):
        MessageTemplates(tmp_path).render("late_log", EXAMPLE_PARAMS["late_log"])


def test_a_missed_slot_of_release_0_1_0_is_still_shown() -> None:
    params = {"schedule": "reminder.data", "slot": "2026-11-23T09:00[Europe/Berlin]", "foundAt": 0}
    found = MessageTemplates().render("schedule_missed", params)
    assert found.title == "Missed runs of schedules: 1"
    assert "reminder.data: 2026-11-23T09:00[Europe/Berlin]" in found.text
    assert "reminder.data: 2026-11-23T09:00[Europe/Berlin]" in found.html


def test_a_report_counts_and_compares_and_one_of_release_0_1_0_is_still_shown() -> None:
    params = dict(EXAMPLE_PARAMS["manager_report"])
    found = MessageTemplates().render("manager_report", params)
    assert found.summary == "3 of 4 handed in, 1 of them late."
    for text in (found.text, found.html):
        assert "Missing now, but not in the week before: Ada Okafor." in text
        assert "Missing in the week before, but not now: Chen Wei." in text
    for name in ("expected", "handedIn", "previous"):
        del params[name]
    stored = MessageTemplates().render("manager_report", params)
    assert stored.summary == "Missing: 1. Late: 1. Repeatedly missing: 1."
    assert "Ada Okafor" in stored.html
