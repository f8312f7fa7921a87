"""A mail as it goes over the wire, read by Python's parser."""

from __future__ import annotations

from email import message_from_bytes, policy
from email.message import EmailMessage

import pytest

from homeroom.notify.api import (
    EXAMPLE_PARAMS,
    MESSAGE_TYPES,
    Channel,
    MailIdentity,
    MessageTemplates,
    OutgoingMessage,
    RenderedMessage,
    list_languages,
)
from homeroom.notify.mail import compose_mail

NOW = 1_795_000_000_000_000
SENDER = MailIdentity("Lernhaus Süd (Mitte) <homeroom@example.org>", "Büro <buero@example.org>")


def parse(message: OutgoingMessage, sender: MailIdentity = SENDER) -> EmailMessage:
    raw = compose_mail(message, sender, NOW)
    assert raw.count(b"\n") == raw.count(b"\r\n")
    assert max(map(len, raw.split(b"\r\n"))) <= 998
    mail = message_from_bytes(raw, policy=policy.default)
    for part in mail.walk():
        assert part.defects == []
        assert {name: value.defects for name, value in part.items() if value.defects} == {}
    return mail


@pytest.mark.parametrize("language", list_languages())
@pytest.mark.parametrize("type", [*MESSAGE_TYPES])
def test_every_type_has_no_defect_and_all_headers(type: str, language: str) -> None:
    rendered = MessageTemplates().render(type, EXAMPLE_PARAMS[type], locale=language)
    url = f"https://homeroom.example.org/u/{'x' * 150}"
    mail = parse(OutgoingMessage("0199", Channel.EMAIL, "ada@example.org", rendered, url, type))
    assert mail["Subject"] == rendered.title
    assert mail["From"].addresses[0].display_name == "Lernhaus Süd (Mitte)"
    assert mail["From"].addresses[0].addr_spec == "homeroom@example.org"
    assert mail["Reply-To"].addresses[0].display_name == "Büro"
    assert mail["List-Id"] == f"<{type.replace('_', '-')}.example.org>"
    assert mail["Feedback-ID"].startswith(f"{type}:example.org:")
    assert mail["List-Unsubscribe"] == f"<{url}>"
    text, html = mail.get_body(("plain",)), mail.get_body(("html",))
    assert text is not None
    assert html is not None
    assert text.get_content().replace("\r\n", "\n") == rendered.text
    assert html.get_content().replace("\r\n", "\n").rstrip() == rendered.html.rstrip()


def test_lines_of_any_kind_arrive_as_they_are() -> None:
    text = "a\r\n.\n..b \n=20\tü\u2028x\n" + "long " * 300 + "\nFrom me\n-- \n=_0199--\n"
    message = OutgoingMessage(
        "0199", Channel.EMAIL, "ada@example.org", RenderedMessage("x" * 200, "", text, text)
    )
    mail = parse(message)
    body = mail.get_body(("plain",))
    assert body is not None
    assert body.get_content().replace("\r\n", "\n") == text.replace("\r\n", "\n")
    assert mail["List-Id"] is None


@pytest.mark.parametrize(
    ("address", "title"),
    [
        ("ada@example.org\r\nBcc: eve@example.org", "x"),
        ("", "x"),
        ("ada@example.org", "x\nBcc: eve@example.org"),
        ("a" * 1_000 + "@example.org", "x"),
        ("ada@" + "ü" * 70 + ".example", "x"),
    ],
)
def test_what_would_add_a_header_or_has_no_form_is_refused(address: str, title: str) -> None:
    message = OutgoingMessage(
        "0199", Channel.EMAIL, address, RenderedMessage(title, "", "t", "<p>t</p>")
    )
    with pytest.raises(ValueError, match=r"."):
        compose_mail(message, SENDER, NOW)
