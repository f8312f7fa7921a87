"""Parsing of HOMEROOM_SMTP_URL: TLS is the default, secrets are not repeated in errors."""

from __future__ import annotations

import pytest

from homeroom.errors import ConfigurationError
from homeroom.notify.smtp_connection import SmtpServer
from homeroom.notify.smtp_sender import parse_smtp_url


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("smtp://m.example", SmtpServer("m.example", 587, "required")),
        ("smtps://m.example", SmtpServer("m.example", 465, "implicit")),
        ("smtp://localhost:2525?tls=none", SmtpServer("localhost", 2525, "none")),
        ("smtp://a%40b:p%2Fw@m.example", SmtpServer("m.example", 587, "required", "a@b", "p/w")),
    ],
)
def test_a_url_has_host_port_tls_and_credentials(url: str, expected: SmtpServer) -> None:
    assert parse_smtp_url(url) == expected


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
def test_an_invalid_url_is_refused_without_repeating_it(url: str) -> None:
    with pytest.raises(ConfigurationError) as raised:
        parse_smtp_url(url)
    assert "word" not in raised.value.message
