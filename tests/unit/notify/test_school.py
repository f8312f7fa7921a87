"""Colours that can be read, and links to pages of programmes and facilitators."""

from __future__ import annotations

import pytest

from homeroom.notify.school import DEFAULT_COLOUR, School, contrast


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
