"""Picture mails, light and dark: ``python -m tests.docs.mail_png docs``.

Writes ``mail.png``, as a phone shows them, ``mail-desktop.png``, and ``learner-mail.png``. Each
mail is composed as it is sent, parsed again, and its HTML is shown.
"""

from __future__ import annotations

import html
import sys
import tempfile
from dataclasses import dataclass
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path

from tests.support.browser import browse
from tests.support.png import decode_png, encode_png

from homeroom.notify.api import (
    EXAMPLE_PARAMS,
    Channel,
    InlineImage,
    MailIdentity,
    MessageTemplates,
    OutgoingMessage,
    School,
)
from homeroom.notify.mail import compose_mail
from homeroom.notify.school import LOGO_CONTENT_ID

GAP = 24
STOP = "https://homeroom.example.org/u/token"
DARK = "(prefers-color-scheme: dark)"
SENDER = MailIdentity("Homeroom <homeroom@example.org>")
LOGO_SIZE = 160, 40


@dataclass(frozen=True, slots=True)
class Picture:
    """One picture: mails of some types beside each other, each light or dark."""

    file: str
    frame_width: int
    height: int
    frames: tuple[tuple[str, bool], ...]
    """Types of messages, and whether they are shown dark."""

    @property
    def width(self) -> int:
        return len(self.frames) * (self.frame_width + GAP) - GAP


PICTURES = (
    Picture("mail.png", 390, 620, (("log_reminder", False), ("log_reminder", True))),
    Picture("mail-desktop.png", 640, 920, (("manager_report", False), ("manager_report", True))),
    Picture(
        "learner-mail.png", 390, 620, (("credential_issued", False), ("credential_expiring", True))
    ),
)


def school(colour: str = "#7a1f4e") -> School:
    """Return a school with a logo: three roofs in its colour."""
    width, height = LOGO_SIZE
    ink = bytes.fromhex(colour[1:])
    rows = [
        b"".join(
            ink if abs(x % 54 - 26) <= y * 26 // height and x < 160 else b"\xff\xff\xff"
            for x in range(width)
        )
        for y in range(height)
    ]
    return School(
        "Lernhaus Mitte",
        "Hauptstr. 1, 10115 Berlin",
        colour,
        logo=InlineImage(LOGO_CONTENT_ID, "image/png", encode_png(width, rows)),
        programme_link="https://learn.example.org/programmes/{programme}?week={week}",
        facilitator_link="https://learn.example.org/programmes/{programme}/{user}?week={week}",
    )


def shown_page(type: str, locale: str, *, is_dark: bool, school: School) -> str:
    """Return the page that a mail program shows of a mail of a type."""
    rendered = MessageTemplates(school=school).render(
        type, EXAMPLE_PARAMS[type], locale=locale, given_name="Ada", unsubscribe_url=STOP
    )
    message = OutgoingMessage("id", Channel.EMAIL, "ada@example.org", rendered, STOP, type)
    mail = message_from_bytes(compose_mail(message, SENDER, 0), policy=policy.default)
    assert isinstance(mail, EmailMessage)
    body = mail.get_body(("html",))
    assert body is not None
    page = str(body.get_content())
    for part in mail.walk():
        if part.get_content_maintype() == "image":
            image = InlineImage("", part.get_content_type(), part.get_content())
            page = page.replace(f"cid:{part['Content-ID'].strip('<>')}", image.data_url)
    assert DARK in page
    return page.replace(DARK, "all" if is_dark else "not all")


def take_picture(picture: Picture, folder: Path, target: Path) -> None:
    """Write a picture; raise ``Missing`` where there is no browser."""
    style = f"border:0;width:{picture.frame_width}px;height:{picture.height}px;margin-right:{GAP}px"
    frames = "".join(
        f'<iframe style="{style}" srcdoc="'
        + html.escape(shown_page(type, "en-GB", is_dark=is_dark, school=school()))
        + '"></iframe>'
        for type, is_dark in picture.frames
    )
    page = folder / f"{picture.file}.html"
    body = f'<body style="margin:0;background:#fff;white-space:nowrap">{frames}</body>'
    page.write_text(f"<!doctype html><html><meta charset=utf-8>{body}</html>", encoding="utf-8")
    size = f"--window-size={picture.width},{picture.height}"
    browse(page, folder, size, f"--screenshot={target.resolve()}")
    target.write_bytes(encode_png(*decode_png(target.read_bytes())))


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as temporary:
        for each in PICTURES:
            take_picture(each, Path(temporary), Path(sys.argv[1]) / each.file)
