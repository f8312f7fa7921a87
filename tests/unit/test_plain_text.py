"""Ids, lines and links from outside: what is refused, and what every language needs."""

from __future__ import annotations

import pytest

from homeroom.plain_text import check_link, is_external_id, is_line
from homeroom.time_zone import check_time_zone


@pytest.mark.parametrize(
    "text",
    [
        "a",
        "...",
        ".hidden",
        "a/b",
        "http://a.example/b?c=1#d",
        "a b",
        "%2F",
        "Ünïcode",
        "学生",
        "x" * 128,
    ],
)
def test_these_are_ids(text: str) -> None:
    assert is_external_id(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "   ",
        ".",
        "..",
        "\u200b",
        "\u200b\u2060",
        "\u3164",
        "a\u202eb",
        "\u2066a",
        "a\nb",
        "\x7f",
        "x" * 129,
    ],
)
def test_an_id_that_cannot_be_addressed_or_seen_is_refused(text: str) -> None:
    assert not is_external_id(text)


@pytest.mark.parametrize("text", ["Ada", "क्\u200cष", "👩\u200d🔬", "क्ष", "e\u0301"])
def test_names_of_all_scripts_are_lines(text: str) -> None:
    assert is_line(text)


@pytest.mark.parametrize(
    "text", ["", "\u200b", "\u200d\u200d", "\u2800", "a\u202eb", "a\r\nb", "a\u2028b"]
)
def test_a_name_that_cannot_be_seen_or_turns_the_line_around_is_refused(text: str) -> None:
    assert not is_line(text)


@pytest.mark.parametrize(
    "text",
    [
        "https://u:p@a.example/",
        "https://u@a.example",
        "javascript:x",
        "//a",
        "https://",
        "http://a b",
    ],
)
def test_a_link_with_credentials_or_without_a_host_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="URL"):
        check_link(text)
    assert check_link("https://a.example/b@c") == "https://a.example/b@c"


@pytest.mark.parametrize(
    "text", ["localtime", "Factory", "posix/Europe/Berlin", "/etc/localtime", "..", ""]
)
def test_a_time_zone_that_is_no_place_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="IANA"):
        check_time_zone(text)
    assert check_time_zone("Europe/Berlin") == "Europe/Berlin"
