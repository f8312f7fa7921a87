"""Every message has its words in every language, safe in HTML and whole in text."""

from __future__ import annotations

from pathlib import Path

import pytest
from babel.messages.extract import extract
from babel.messages.pofile import read_po
from jinja2.exceptions import SecurityError

from homeroom.notify.api import EXAMPLES, KIND_TITLES, KINDS, Templates, languages
from homeroom.notify.template import HERE, language_of

KEYWORDS = {"_": None, "say": None, "gettext": None, "ngettext": (1, 2)}
OPTIONS = {"newstyle_gettext": "true"}


def said() -> set[object]:
    """Return everything that the templates and their file say."""
    found: set[object] = set(KIND_TITLES.values())
    for file in (HERE / "templates").iterdir():
        with file.open("rb") as opened:
            method = "jinja2.ext:babel_extract"
            found |= {each[1] for each in extract(method, opened, KEYWORDS, options=OPTIONS)}
    with (HERE / "rendering.py").open("rb") as opened:
        found |= {each[1] for each in extract("python", opened, KEYWORDS)}
    return found


@pytest.mark.parametrize("language", [each for each in languages() if each != "en"])
def test_a_language_has_words_for_all_that_is_said_and_for_nothing_else(language: str) -> None:
    with (HERE / "locale" / f"{language}.po").open("rb") as file:
        catalog = read_po(file, locale=language)
    known = {message.id: message for message in catalog if message.id}
    assert known.keys() == said()
    for message in known.values():
        assert message.string, message.id
        assert [str(error) for error in message.check(catalog)] == []


@pytest.mark.parametrize("language", languages())
@pytest.mark.parametrize("type", KINDS)
def test_every_type_can_be_said(type: str, language: str) -> None:
    words = Templates().words(
        type, EXAMPLES[type], locale=language, given_name="Ada", stop_url="https://x.example/u/t"
    )
    assert "\n" not in words.title
    assert 0 < len(words.title) < 120
    assert words.summary in " ".join(words.text.split())
    assert f'lang="{language}"' in words.html
    assert "https://x.example/u/t" in words.html
    assert "https://x.example/u/t" in words.text
    assert (
        Templates().words(type, EXAMPLES[type], locale=language, whole=False).title == words.title
    )


def test_what_people_are_called_is_text_in_html() -> None:
    params = {**EXAMPLES["late_log"], "offering": "<script>alert(1)</script>"}
    words = Templates().words("late_log", params)
    assert "<script>" not in words.html
    assert "&lt;script&gt;" in words.html
    assert "<script>" in words.text


def test_dates_are_written_as_in_the_persons_country() -> None:
    british = Templates().words("log_reminder", EXAMPLES["log_reminder"], locale="en-GB")
    american = Templates().words("log_reminder", EXAMPLES["log_reminder"], locale="en-US")
    assert "29 November 2026, 23:59" in british.summary
    assert "November 29, 2026, 23:59" in american.summary


def test_an_unknown_language_is_english() -> None:
    assert [language_of(tag) for tag in ("de-AT", "fr", None, "x!")] == ["de", "en", "en", "en"]


def test_templates_of_ones_own_go_first_and_stay_in_the_sandbox(tmp_path: Path) -> None:
    (tmp_path / "late_log.txt").write_text("Late: {{ name }}\n\nSee there.")
    assert Templates(tmp_path).words("late_log", EXAMPLES["late_log"]).title == "Late: Ben Li"
    (tmp_path / "late_log.txt").write_text("{{ name.__class__.__mro__ }}\n\nx")
    with pytest.raises(SecurityError):
        Templates(tmp_path).words("late_log", EXAMPLES["late_log"])
