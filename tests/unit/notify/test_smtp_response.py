"""Meaning of SMTP responses."""

from __future__ import annotations

import pytest

from homeroom.notify.delivery_rules import DeliveryStatus, ReasonCode
from homeroom.notify.smtp_response import (
    SmtpPhase,
    accept_delivery,
    decide_delivery,
    find_server_id,
    redact_response,
)

_P, _F, _U = DeliveryStatus.PENDING, DeliveryStatus.FAILED, DeliveryStatus.UNKNOWN
_TEMPORARY, _SENDER = ReasonCode.TEMPORARY_FAILURE, ReasonCode.SENDER_REFUSED
_RECIPIENT, _MESSAGE = ReasonCode.RECIPIENT_REFUSED, ReasonCode.MESSAGE_REFUSED


@pytest.mark.parametrize(
    ("phase", "code", "text", "status", "bounce", "reason_code", "refusal"),
    [
        (SmtpPhase.CONNECT, None, "lost", _P, None, ReasonCode.SERVER_UNREACHABLE, None),
        (SmtpPhase.CONNECT, 421, "busy", _P, None, _TEMPORARY, None),
        (SmtpPhase.CONNECT, 535, "5.7.8 bad credentials", _P, None, _SENDER, "session"),
        (SmtpPhase.CONNECT, 554, "no SMTP service here", _P, None, _SENDER, "session"),
        (SmtpPhase.MAIL, 550, "5.1.8 sender refused", _P, None, _SENDER, "session"),
        (SmtpPhase.MAIL, 550, "text", _P, None, _SENDER, "session"),
        (SmtpPhase.MAIL, 552, "5.3.4 too big", _F, None, _MESSAGE, None),
        (SmtpPhase.MAIL, 553, "5.6.7 non-ASCII addresses not permitted", _F, None, _MESSAGE, None),
        (SmtpPhase.RCPT, None, "lost", _P, None, ReasonCode.SERVER_UNREACHABLE, None),
        (SmtpPhase.RCPT, 450, "4.2.0 greylisted", _P, None, _TEMPORARY, None),
        (SmtpPhase.RCPT, 550, "text", _F, "hard", _RECIPIENT, None),
        (SmtpPhase.RCPT, 552, "text", _F, "soft", _RECIPIENT, None),
        (SmtpPhase.RCPT, 554, "5.7.1 <a@b.c>: Relay access denied", _P, None, _SENDER, "relay"),
        (SmtpPhase.RCPT, 504, "5.5.2 Helo command rejected", _P, None, _SENDER, "relay"),
        (SmtpPhase.RCPT, 550, "5.7.1 only members may write here", _F, None, _MESSAGE, None),
        (SmtpPhase.DATA, None, "lost", _P, None, ReasonCode.SERVER_UNREACHABLE, None),
        (SmtpPhase.DATA, 554, "text", _F, None, _MESSAGE, None),
        (SmtpPhase.END, None, "lost", _U, None, ReasonCode.OUTCOME_UNKNOWN, None),
        (SmtpPhase.END, 451, "later", _P, None, _TEMPORARY, None),
        (SmtpPhase.END, 299, "what", _P, None, _TEMPORARY, None),
        (SmtpPhase.END, 554, "5.7.1 spam", _F, None, _MESSAGE, None),
        (SmtpPhase.END, 550, "5.1.1 no such user", _F, "hard", _RECIPIENT, None),
        (SmtpPhase.END, 550, "5.7.1 blocked using zen.spamhaus.org", _P, None, _SENDER, "relay"),
    ],
)
def test_phase_code_and_text_decide_the_outcome(
    phase: SmtpPhase,
    code: int | None,
    text: str,
    status: DeliveryStatus,
    bounce: str | None,
    reason_code: ReasonCode,
    refusal: str | None,
) -> None:
    found = decide_delivery(phase, code, text)
    assert (found.status, found.bounce, found.reason_code, found.refusal) == (
        status,
        bounce,
        reason_code,
        refusal,
    )


@pytest.mark.parametrize(
    ("answer", "id"),
    [
        (
            "Ok 0102018f3a1b2c3d-aabbccdd-1122-3344-5566-778899aabbcc-000000",
            "0102018f3a1b2c3d-aabbccdd-1122-3344-5566-778899aabbcc-000000",
        ),
        ("2.0.0 Ok: queued as 4F2D9E1A2B", None),  # Postfix uses its ids again
        ("Ok: queued as Qo1lWb4uSWmv5Mz-pN2fyA", "Qo1lWb4uSWmv5Mz-pN2fyA"),
        ("2.0.0 taken", None),
        ("accepted-for-delivery-thanks", None),
    ],
)
def test_the_id_in_an_answer_is_the_providers(answer: str, id: str | None) -> None:
    assert find_server_id(answer) == id
    assert accept_delivery(answer).server_id == id


def test_a_response_of_any_length_loses_its_addresses() -> None:
    assert (
        redact_response("550 <mia@example.org>: no\r\n such  user")
        == "550 <m***@example.org>: no such user"
    )
    assert len(redact_response("a" * 1_000_000)) == 300
