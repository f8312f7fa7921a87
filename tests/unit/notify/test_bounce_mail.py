"""Reading of bounce mails: reports, free forms, delays, automatic replies, crafted mails."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homeroom.notify.bounce_mail import (
    MAX_BOUNCE_BYTES,
    UnreadableNotice,
    bounce_address,
    parse_notices,
)

ID = "0199c0de-7a3b-7c11-9f7e-2f60b1a2c3d4"


def report(action: str, status: str, diagnostic: str, text: str = "It did not work.") -> str:
    """Return a report as RFC 3464 describes it."""
    return (
        "From: MAILER-DAEMON@mx.example\nContent-Type: multipart/report; boundary=b\n\n"
        f"--b\nContent-Type: text/plain\n\n{text}\n"
        "--b\nContent-Type: message/delivery-status\n\nReporting-MTA: dns; mx.example\n\n"
        f"Final-Recipient: rfc822; ida@school.example\nAction: {action}\nStatus: {status}\n"
        f"Diagnostic-Code: {diagnostic}\n"
        f"--b\nContent-Type: text/rfc822-headers\n\nMessage-ID: <{ID}@homeroom.example>\n--b--\n"
    )


def letter(
    subject: str, text: str, sender: str = "MAILER-DAEMON@mx.example", more: str = ""
) -> str:
    """Return a bounce in free form."""
    return f"From: {sender}\nSubject: {subject}\n{more}\n{text}\n"


MAILS = [
    (report("failed", "5.1.1", "smtp; 550 5.1.1 User unknown"), "hard"),
    (report("failed", "5.0.0", "smtp; 550 User unknown"), "hard"),
    (report("failed", "5.0.0", "X-Unix; 67", "The user is unknown: no such user here."), "hard"),
    (
        report("failed", "5.4.1", "smtp; 550 5.4.1 Recipient address rejected: Access denied"),
        "hard",
    ),
    (report("failed", "5.7.1", "smtp; 554 5.7.1 Client host rejected: Access denied"), "block"),
    (report("failed", "5.1.0", "smtp; 550 5.1.0 sender rejected: your IP is blocked"), "block"),
    (report("failed", "5.2.2", "smtp; 552 5.2.2 Mailbox full"), "soft"),
    (report("failed", "4.4.7", "smtp; 451 4.4.7 expired in the queue"), "soft"),
    (report("failed", "5.3.0", "X-Local; configuration error"), "block"),
    (report("error", "5.0.0 (no such user)", "none"), "hard"),
    (report("delayed", "4.4.1", "smtp; 451 no answer"), "delayed"),
    (report("delivered", "2.0.0", "smtp; 250 ok"), "delivered"),
    (report("relayed", "2.0.0", "smtp; 250 ok"), "delayed"),
    (
        report("failed", "5.1.1", "smtp; 550 no such user").replace(
            "/delivery", "/global-delivery"
        ),
        "hard",
    ),
    (letter("配信できませんでした", "ida@school.example\n550 5.1.1 該当者なし"), "hard"),
    (
        letter(
            "Re: the log is open",
            "I am out of the office and can not be reached. My account is closed on Sundays.",
            "ida@school.example",
            "Return-Path: <>\n",
        ),
        "auto_reply",
    ),
    (
        letter(
            "Mail delivery failed: returning message to sender",
            "These addresses failed:\n\n  ida@school.example\n    550 5.1.1 Unknown user\n",
            more="X-Failed-Recipients: ida@school.example\nAuto-Submitted: auto-replied\n",
        ),
        "hard",
    ),
    (
        letter(
            "failure notice",
            "The program at mx.example could not deliver your mail.\n\n<ida@school.example>:\n"
            "Sorry, no mailbox here by that name. (#5.1.1)\n\n--- Below this line is a copy of the"
            " message.\n\nIt is not spam and contains no virus.",
        ),
        "hard",
    ),
    (
        letter(
            "Delivery Status Notification (Failure)",
            "<html><style>p {color: red}</style><p>Address not found</p><p>Your message wasn't"
            " delivered because the address couldn't be found.</p></html>",
            "Mail Delivery Subsystem <mailer-daemon@googlemail.example>",
            "Content-Type: text/html\n",
        ),
        "hard",
    ),
    (
        letter(
            "Undeliverable: the log is open",
            "ida@school.example could not be reached: the mailbox is full.",
            "postmaster@workmail.example",
        ),
        "soft",
    ),
    (
        letter(
            "Undelivered Mail Returned to Sender",
            "This message could not be delivered.\nida@school.example, ERROR CODE :550 - Invalid"
            " Recipients\n",
            "mailer-daemon@mail.zoho.example",
        ),
        "hard",
    ),
    (
        letter(
            "Mail delivery failed",
            "Ihre Mail konnte nicht zugestellt werden:\nida@school.example\n550 Benutzer unbekannt",
            "Postmaster <postmaster@post.example>",
        ),
        "hard",
    ),
    (
        letter(
            "Warning: message delayed 24 hours",
            "Your mail has not yet been delivered to ida@school.example. Delivery attempts will"
            " continue. Eventually the server will give up.",
        ),
        "delayed",
    ),
    (
        letter(
            "Automatic reply: the log is open",
            "I can not be reached; this account does not exist on Mondays.",
            "Ida <ida@school.example>",
            "Return-Path: <>\nAuto-Submitted: auto-replied\n",
        ),
        "auto_reply",
    ),
    (letter("Out of office", "Back on Monday.", "Ida <ida@school.example>"), "auto_reply"),
    (letter("Abwesend", "Bis Montag im Urlaub.", "ida@school.example"), "auto_reply"),
]


@pytest.mark.parametrize(("mail", "kind"), MAILS)
def test_a_mail_is_read_as_the_table_says(mail: str, kind: str) -> None:
    [notice] = parse_notices(mail.encode())
    assert notice.kind == kind


def test_each_recipient_of_a_report_is_judged_alone() -> None:
    second = "\nFinal-Recipient: rfc822; ben@school.example\nAction: failed\nStatus: 5.7.1\n--b\n"
    mail = report("failed", "5.1.1", "smtp; 550 no user").replace(
        "--b\nContent-Type: text/rfc", (f"{second}Content-Type: text/rfc")
    )
    found = [(each.recipient, each.kind) for each in parse_notices(mail.encode())]
    assert found == [("ida@school.example", "hard"), ("ben@school.example", "block")]


@pytest.mark.parametrize(
    "mail",
    [
        letter("failure notice", "could not be delivered", more=f"To: bounces+{ID}@x.example\n"),
        letter("failure notice", f"not delivered\n\nX-Homeroom-Delivery: {ID}\n"),
        letter("failure notice", f"not delivered\n--- a copy ---\nMessage-ID: <{ID}@x.example>\n"),
        letter("failure notice", "undeliverable", more=f"In-Reply-To: <{ID}@x.example>\n"),
    ],
)
def test_a_bounce_names_its_delivery_by_any_of_four_traces(mail: str) -> None:
    assert parse_notices(mail.encode())[0].references == (ID,)


def test_the_return_path_carries_the_id_where_it_has_a_place_for_it() -> None:
    assert bounce_address("bounces+{id}@x.example", ID) == f"bounces+{ID}@x.example"
    assert bounce_address("bounces@x.example", ID) == "bounces@x.example"


@pytest.mark.parametrize(
    "mail",
    [
        "Subject: hello\n\nnothing to see",
        "From: ida@school.example\nSubject: Re: the log\n\nIt could not be delivered by bike.",
    ],
)
def test_a_letter_of_a_person_is_refused(mail: str) -> None:
    with pytest.raises(UnreadableNotice):
        parse_notices(mail.encode())


@given(st.binary(max_size=300))
def test_any_bytes_are_parsed_or_refused(raw: bytes) -> None:
    with contextlib.suppress(UnreadableNotice):
        parse_notices(raw)
    with contextlib.suppress(UnreadableNotice):
        parse_notices(b"From: MAILER-DAEMON@x\nSubject: failure notice\n" + raw)


REPORT = (
    b'Content-Type: multipart/report; boundary="b"\r\n\r\n--b\r\n'
    b"Content-Type: message/delivery-status\r\n\r\nReporting-MTA: dns; mx\r\n\r\n"
    b"Action: failed\r\nStatus: 5.1.1\r\nFinal-Recipient: rfc822; %s\r\n--b--\r\n"
)
DAEMON = b"From: MAILER-DAEMON@x\r\nSubject: failure notice\r\n"


@pytest.mark.parametrize(
    "raw",
    [
        REPORT % (b"=?utf-8?q?a?= " * 70_000),
        b"Content-Type: text/plain;" + b" a=1;" * 200_000 + b"\r\n\r\n",
        b"Content-Type: multipart/report" + b"(" * 1_000_000 + b"\r\n\r\n",
        b"".join(
            b'Content-Type: multipart/mixed; boundary="%d"\r\n\r\n--%d\r\n' % (n, n)
            for n in range(15_000)
        ),
        REPORT.split(b"Action")[0] + b"Action: failed\r\nStatus: 5.0.0\r\n\r\n" * 25_000,
        DAEMON + b"Content-Type: text/html\r\n\r\n" + b"<style>" * 140_000,
        DAEMON + b"Content-Type: text/plain; charset=punycode\r\n\r\n" + b"a-9" * 300_000,
        DAEMON + b"\r\n" + b"user " * 200_000,
        DAEMON + b"\r\n" + b"not " * 250_000,
        DAEMON + b"\r\n" + b"550 5.1.1 " * 100_000,
        DAEMON + b"\r\n" + b"a@" * 500_000,
        DAEMON + b"X-Failed-Recipients: " + b"a@b.example, " * 70_000 + b"\r\n\r\n",
    ],
    ids=[
        "words",
        "parameters",
        "brackets",
        "nested",
        "recipients",
        "style",
        "punycode",
        "users",
        "nots",
        "codes",
        "ats",
        "failed",
    ],
)
@pytest.mark.timeout(20)
def test_a_mail_crafted_to_be_slow_is_parsed_or_refused_at_once(raw: bytes) -> None:
    """Attackers can write to a return path. The email package's newest policy takes minutes."""
    assert len(raw) < MAX_BOUNCE_BYTES
    with contextlib.suppress(UnreadableNotice):
        assert len(parse_notices(raw)) <= 50
