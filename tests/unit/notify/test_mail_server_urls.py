"""The address of a mail server: what it says, and that TLS is what one gets without asking."""

from __future__ import annotations

import pytest

from homeroom.errors import ConfigurationError
from homeroom.notify.smtp import Server, parse_url


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("smtp://m.example", Server("m.example", 587, "required")),
        ("smtps://m.example", Server("m.example", 465, "implicit")),
        ("smtp://localhost:2525?tls=none", Server("localhost", 2525, "none")),
        ("smtp://a%40b:p%2Fw@m.example", Server("m.example", 587, "required", "a@b", "p/w")),
    ],
)
def test_a_url_says_where_and_how(url: str, expected: Server) -> None:
    assert parse_url(url) == expected


@pytest.mark.parametrize(
    "url",
    [
        "http://m.example",
        "smtp://",
        "smtp://m.example?tls=maybe",
        "smtps://m.example?tls=none",
        "smtp://m.example?retry=3",
        "smtp://user:pass:word@m.example:port",
    ],
)
def test_another_one_is_refused_without_repeating_it(url: str) -> None:
    with pytest.raises(ConfigurationError) as raised:
        parse_url(url)
    assert "word" not in raised.value.message
