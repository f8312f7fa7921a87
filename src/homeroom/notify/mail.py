"""Composition of mails: headers, parts, addresses (pure)."""

from __future__ import annotations

import binascii
import re
from base64 import encodebytes
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from email.header import Header
from email.utils import format_datetime, formataddr, parseaddr
from types import MappingProxyType

import idna

from homeroom.instant import to_datetime
from homeroom.notify.bounce_mail import bounce_address
from homeroom.notify.channel_sender import OutgoingMessage
from homeroom.notify.message_texts import RenderedMessage
from homeroom.notify.school import InlineImage

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_LIST_LABEL = re.compile(r"[^a-z0-9]+")
_MAX_LINE_OCTETS = 998
"""RFC 5322, 2.1.1."""
_FOLD_AT = 76
_NO_TRACE: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class MailIdentity:
    """The sender of mails: ``From``, ``Reply-To``, and the return path for bounces."""

    mail_from: str
    reply_to: str | None = None
    return_path: str | None = None

    @property
    def address(self) -> str:
        """Return the bare address of the sender, its domain in ASCII."""
        return to_wire_address(parseaddr(self.mail_from)[1])

    @property
    def name(self) -> str:
        """Return the display name of the sender."""
        return parseaddr(self.mail_from)[0] or self.address

    @property
    def domain(self) -> str:
        """Return the domain of the sender in ASCII."""
        return self.address.rpartition("@")[2]

    def envelope_sender(self, delivery_id: str) -> str:
        """Return the bare address for bounces of one delivery, its domain in ASCII."""
        bare = self.address if self.return_path is None else _bare_address(self.return_path)
        return bounce_address(bare, delivery_id)

    def message_id(self, delivery_id: str) -> str:
        """Return the Message-ID of a delivery, the same at each attempt."""
        return f"<{delivery_id}@{self.domain}>"


def to_wire_address(address: str) -> str:
    """Return an address with its domain in ASCII (IDNA 2008 after UTS 46).

    The part before the ``@`` has no ASCII form: the result may need SMTPUTF8 (RFC 6531).
    Raises ValueError for a domain that no name can have.
    """
    local, at, domain = address.rpartition("@")
    if domain.isascii():
        return address
    try:
        return f"{local}{at}{idna.encode(domain, uts46=True).decode('ascii')}"
    except idna.IDNAError as error:
        raise ValueError(f"the domain {domain!r} is not valid: {error}") from error


def _bare_address(mailbox: str) -> str:
    return to_wire_address(parseaddr(mailbox)[1] or mailbox)


def compose_mail(
    message: OutgoingMessage,
    sender: MailIdentity,
    now: int,
    trace: Mapping[str, str] = _NO_TRACE,
) -> bytes:
    """Return a mail with text, HTML, and the headers of an automatic message.

    ``trace`` has the headers by which a provider's events name the delivery.
    The two ``List-Unsubscribe`` headers are those of RFC 8058; a DKIM signature must cover them.
    The lines end with CRLF. The bytes are written here and not by ``EmailMessage``, which parses
    every header that it is given and takes ten times as long (decision 0029).
    Raises ValueError for an address that cannot be written.
    """
    boundary = f"=_{message.id}"  # "=_" cannot occur in quoted-printable text
    headers = [
        _address_header("From", sender.mail_from),
        _address_header("To", message.address, in_brackets=bool(message.rendered.images)),
        _header("Subject", message.rendered.title),
        _header("Date", format_datetime(to_datetime(now))),
        _raw_header("Message-ID", sender.message_id(message.id)),
        _header("Auto-Submitted", "auto-generated"),
        _header("X-Auto-Response-Suppress", "OOF, AutoReply"),
    ]
    reply_to = message.rendered.reply_to or sender.reply_to
    if reply_to is not None:
        headers.append(_address_header("Reply-To", reply_to))
    if message.type is not None:
        label = _LIST_LABEL.sub("-", message.type.lower())
        headers += [
            _raw_header("List-Id", f"<{label}.{sender.domain}>"),
            # Google's form: up to three fields, and the name of the sender (5 to 15 characters).
            _raw_header("Feedback-ID", f"{message.type}:{sender.domain}:mail:homeroom"),
        ]
    if message.unsubscribe_url is not None:
        # In one piece: a mail program that searches for `<https:` finds no encoded or folded link.
        headers += [
            _raw_header("List-Unsubscribe", f"<{message.unsubscribe_url}>"),
            _raw_header("List-Unsubscribe-Post", "List-Unsubscribe=One-Click"),
        ]
    headers += [_raw_header(name, value) for name, value in trace.items()]
    headers += [
        _raw_header("MIME-Version", "1.0"),
        _raw_header("Content-Type", f'multipart/alternative; boundary="{boundary}"'),
    ]
    rendered = message.rendered
    parts = [_text_part(b"plain", rendered.text), _html_part(rendered, boundary)]
    return b"".join([*headers, b"\r\n", _join_parts(parts, boundary)])


def _html_part(rendered: RenderedMessage, boundary: str) -> bytes:
    """Return the HTML as a part; together with its images (RFC 2387) if it has some."""
    html = _text_part(b"html", rendered.html)
    if not rendered.images:
        return html
    inner = f"{boundary}-r"
    content_type = f'multipart/related; type="text/html"; boundary="{inner}"'
    parts = [html, *(_image_part(each) for each in rendered.images)]
    return _raw_header("Content-Type", content_type) + b"\r\n" + _join_parts(parts, inner)


def _join_parts(parts: Sequence[bytes], boundary: str) -> bytes:
    line = b"--%s" % boundary.encode()
    return b"".join([*(b"%s\r\n%s\r\n" % (line, part) for part in parts), line, b"--\r\n"])


def _text_part(subtype: bytes, text: str) -> bytes:
    return (
        b"Content-Type: text/%s; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable"
        b"\r\n\r\n%s" % (subtype, _to_quoted_printable(text))
    )


def _image_part(image: InlineImage) -> bytes:
    headers = [
        _raw_header("Content-Type", image.media_type),
        _raw_header("Content-Transfer-Encoding", "base64"),
        _raw_header("Content-ID", f"<{image.content_id}>"),
        _raw_header("Content-Disposition", "inline"),
    ]
    return b"".join([*headers, b"\r\n", b"\r\n".join(encodebytes(image.data).splitlines())])


def _to_quoted_printable(text: str) -> bytes:
    lines = text.replace("\r\n", "\n").replace("\r", "\n").replace("\n", "\r\n")
    return binascii.b2a_qp(lines.encode())


def _header(name: str, value: str) -> bytes:
    """Return a folded header; a value beyond ASCII as encoded words (RFC 2047)."""
    _require_one_line(name, value)
    if value.isascii() and len(name) + len(value) + 2 <= _FOLD_AT:
        return f"{name}: {value}\r\n".encode("ascii")
    charset = "us-ascii" if value.isascii() else "utf-8"
    folded = Header(value, charset, maxlinelen=_FOLD_AT, header_name=name)
    return f"{name}: {folded.encode(linesep=chr(13) + chr(10))}\r\n".encode("ascii")


def _address_header(name: str, mailbox: str, *, in_brackets: bool = False) -> bytes:
    """Return a header of one mailbox; in UTF-8 where its address is (RFC 6532).

    A bare address is in brackets only on demand: spam filters count a mail with an image and
    without brackets in ``To``.
    """
    _require_one_line(name, mailbox)
    display, address = parseaddr(mailbox)
    if not address:
        raise ValueError(f"{name} is not an address")
    address = to_wire_address(address)
    if not display:
        return _raw_header(name, f"<{address}>" if in_brackets else address)
    phrase = formataddr((display, "a@b")).removesuffix(" <a@b>")
    return _raw_header(name, f"{phrase} <{address}>")


def _raw_header(name: str, value: str) -> bytes:
    """Return a header on one line, as it is."""
    _require_one_line(name, value)
    line = f"{name}: {value}\r\n".encode()
    if len(line) > _MAX_LINE_OCTETS:
        raise ValueError(f"{name} is longer than a line of a mail may be")
    return line


def _require_one_line(name: str, value: str) -> None:
    if _CONTROL.search(value):
        raise ValueError(f"{name} has a control character")
