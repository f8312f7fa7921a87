"""Colours that can be read, and links to pages of programmes and facilitators."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from homeroom.bootstrap.partners import build_templates
from homeroom.notify.api import MessageTemplates
from homeroom.notify.examples import EXAMPLE_PARAMS
from homeroom.notify.rendering import RenderedMessage
from homeroom.notify.school import DEFAULT_COLOUR, School, contrast
from homeroom.settings import Settings


@pytest.mark.parametrize(
    ("colour", "text", "link"),
    [
        (DEFAULT_COLOUR, "#ffffff", DEFAULT_COLOUR),
        ("#ffcc00", "#000000", "#1d2529"),
        ("#000000", "#ffffff", "#000000"),
        ("#ffffff", "#000000", "#1d2529"),
    ],
)
def test_text_on_and_links_in_the_schools_colour_can_be_read(
    colour: str, text: str, link: str
) -> None:
    school = School(colour=colour)
    assert (school.text_colour, school.link_colour) == (text, link)


def test_text_can_be_read_on_every_colour() -> None:
    for level in range(256):
        for colour in (f"#{level:02x}" * 1 + f"{level:02x}" * 2, f"#{level:02x}00ff"):
            school = School(colour=colour)
            assert contrast(school.text_colour, colour) >= 4.5
            assert contrast(school.link_colour, "#f2f4f5") >= 4.5
    assert contrast("#ffffff", "#000000") == pytest.approx(21)
    assert contrast("#767676", "#ffffff") == pytest.approx(4.54, abs=0.01)


def test_links_hold_ids_percent_encoded() -> None:
    school = School(
        programme_link="https://x.example/p/{programme}?week={week}",
        facilitator_link="https://x.example/p/{programme}/{user}",
    )
    assert school.link_to_programme("a/b", "2026-W48") == "https://x.example/p/a%2Fb?week=2026-W48"
    assert (
        school.link_to_facilitator("a", "2026-W48", "{week}") == "https://x.example/p/a/%7Bweek%7D"
    )


def test_a_facilitator_without_a_page_is_linked_to_the_programme() -> None:
    school = School(programme_link="https://x.example/p/{programme}")
    assert school.link_to_facilitator("a", "2026-W48", "ada") == "https://x.example/p/a"
    assert School().link_to_facilitator("a", "2026-W48", "ada") is None


def render(templates: MessageTemplates, type: str, params: Mapping[str, object]) -> RenderedMessage:
    return templates.render(
        type,
        params,
        locale="en",
        given_name="Ada",
        unsubscribe_url=None,
        with_body=True,
        programme_id="lab",
    )


@pytest.mark.parametrize("type", ["log_reminder", "deadline_warning"])
@pytest.mark.parametrize(
    ("given", "public_url", "link"),
    [
        ("https://own.example/logs", "https://h.example", "https://own.example/logs"),
        (None, "https://h.example", "https://h.example/console/logs?programme=lab&week=2026-W48"),
        (None, None, None),
    ],
)
def test_a_programme_without_a_page_for_logs_links_to_the_console(
    type: str, given: str | None, public_url: str | None, link: str | None
) -> None:
    templates = build_templates(Settings(public_url=public_url))
    params = {**EXAMPLE_PARAMS[type], "url": given, "programmeId": "lab"}
    mail = render(templates, type, params)
    assert ("Write the log" in mail.text, "Write the log" in mail.html) == (bool(link),) * 2
    assert link is None or f"Write the log: {link}\n" in mail.text


def test_reports_link_to_the_console_unless_another_page_is_set() -> None:
    of_console = build_templates(Settings(public_url="https://h.example"))
    report = {**EXAMPLE_PARAMS["manager_report"], "programmeId": "lab", "week": "2026-W48"}
    text = render(of_console, "manager_report", report).text
    assert "https://h.example/console/programmes/lab?week=2026-W48" in text
    own = Settings(public_url="https://h.example", programme_link="https://x.example/{programme}")
    text = render(build_templates(own), "manager_report", report).text
    assert "https://x.example/lab" in text
    assert "/console/" not in text
