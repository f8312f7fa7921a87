"""States, ways, quiet hours, waits, links and server replies: everything that only decides."""

from __future__ import annotations

import contextlib
import random
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homeroom.notify.choice import Crowd, Reach, Wishes, choose
from homeroom.notify.dsn import MAX_BYTES, Unreadable, read
from homeroom.notify.kind import KINDS, Channel, kind_of
from homeroom.notify.link import Subscription, seal, unseal
from homeroom.notify.quiet import QuietHours, digest_at
from homeroom.notify.reply import Phase, hardness, judge, said
from homeroom.notify.state import RESENDABLE, TRANSITIONS, Status, before, may_follow
from homeroom.notify.wait import WAITS, wait_before

BERLIN = ZoneInfo("Europe/Berlin")
MINUTE = 60_000_000


def berlin(text: str) -> int:
    moment = datetime.fromisoformat(text).replace(tzinfo=BERLIN).astimezone(UTC)
    return round(moment.timestamp()) * 1_000_000


def test_nothing_follows_a_complaint_and_everything_else_that_ended_can_be_sent_again() -> None:
    assert TRANSITIONS[Status.COMPLAINED] == frozenset()
    ended = set(Status) - {Status.PENDING, Status.SENDING, Status.ACCEPTED, Status.DELIVERED}
    assert ended - {Status.COMPLAINED} == RESENDABLE
    assert not may_follow(Status.ACCEPTED, Status.PENDING)
    assert not may_follow(Status.SENDING, Status.SENDING)


def test_a_mail_is_accepted_only_out_of_a_conversation() -> None:
    assert before(Status.ACCEPTED) == [Status.SENDING]
    assert before(Status.UNKNOWN) == [Status.SENDING]


@pytest.mark.parametrize(
    ("phase", "code", "status", "bounce"),
    [
        (Phase.CONNECT, None, Status.PENDING, None),
        (Phase.CONNECT, 535, Status.PENDING, None),
        (Phase.CONNECT, 421, Status.PENDING, None),
        (Phase.MAIL, 550, Status.FAILED, None),
        (Phase.RCPT, None, Status.PENDING, None),
        (Phase.RCPT, 450, Status.PENDING, None),
        (Phase.RCPT, 550, Status.FAILED, "hard"),
        (Phase.RCPT, 552, Status.FAILED, "soft"),
        (Phase.DATA, None, Status.PENDING, None),
        (Phase.DATA, 554, Status.FAILED, "soft"),
        (Phase.END, None, Status.UNKNOWN, None),
        (Phase.END, 451, Status.PENDING, None),
        (Phase.END, 554, Status.FAILED, "soft"),
        (Phase.END, 299, Status.PENDING, None),
    ],
)
def test_a_conversations_end_decides(
    phase: Phase, code: int | None, status: Status, bounce: str | None
) -> None:
    found = judge(phase, code, "words")
    assert (found.status, found.bounce) == (status, bounce)


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("5.1.1", "hard"),
        ("5.1.8", "soft"),
        ("5.2.1", "hard"),
        ("5.2.2", "soft"),
        ("5.7.1", "soft"),
        ("4.2.2", "soft"),
        ("2.0.0", None),
    ],
)
def test_an_enhanced_code_says_whether_an_address_is_bad(code: str, expected: str | None) -> None:
    assert hardness(code) == expected


NIGHT, NOON = QuietHours(22 * 60, 7 * 60), QuietHours(12 * 60, 13 * 60)


@pytest.mark.parametrize(
    ("hours", "now", "ends"),
    [
        (NIGHT, "2026-11-23T21:59", None),
        (NIGHT, "2026-11-23T22:00", "2026-11-24T07:00"),
        (NIGHT, "2026-11-24T06:59", "2026-11-24T07:00"),
        (NIGHT, "2026-11-24T07:00", None),
        (NOON, "2026-11-24T12:30", "2026-11-24T13:00"),
        (NIGHT, "2026-10-24T23:00", "2026-10-25T07:00"),  # the clocks change in between
        (QuietHours(60, 60), "2026-11-24T01:00", None),
    ],
)
def test_quiet_hours_end_at_a_time_of_the_wall(
    hours: QuietHours, now: str, ends: str | None
) -> None:
    assert hours.ends_at(berlin(now), BERLIN) == (None if ends is None else berlin(ends))


def test_a_digest_is_due_today_or_tomorrow() -> None:
    assert digest_at(berlin("2026-11-23T16:59"), 1_020, BERLIN) == berlin("2026-11-23T17:00")
    assert digest_at(berlin("2026-11-23T17:00"), 1_020, BERLIN) == berlin("2026-11-24T17:00")


@given(st.integers(0, 1_439), st.integers(0, 1_439), st.integers(0, 2 * 10**15))
def test_quiet_hours_end_later_and_within_a_day(start: int, end: int, now: int) -> None:
    ends = QuietHours(start, end).ends_at(now, BERLIN)
    assert ends is None or now < ends <= now + 25 * 60 * MINUTE


EMAIL = Reach("ada@example.org")
NOW = berlin("2026-11-23T23:00")


def ways(
    type: str, wishes: Wishes, reach: Reach = EMAIL, crowd: Crowd | None = None
) -> dict[str, str]:
    found = choose(kind_of(type), "ada", wishes, {Channel.EMAIL: reach}, NOW, crowd)
    return {
        each.channel.value: f"{each.status.value} {each.reason or ''}".strip() for each in found
    }


def test_a_suppressed_address_goes_before_all_and_a_wish_before_quiet_hours() -> None:
    off = Wishes({("log_reminder", Channel.EMAIL): False}, NIGHT, None, BERLIN)
    bad = Reach("ada@example.org", None, "the address is suppressed: hard")
    assert ways("log_reminder", off, bad)["email"].startswith("suppressed")
    assert ways("log_reminder", off)["email"] == "skipped switched off by the person"
    assert ways("compliance_warning", off)["email"] == "pending"
    assert ways("log_reminder", Wishes(), Reach(None))["email"].endswith("is known")
    unset = Reach("ada@example.org", "HOMEROOM_SMTP_URL is not set")
    assert ways("log_reminder", Wishes(), unset)["email"] == "skipped HOMEROOM_SMTP_URL is not set"


def test_the_inbox_is_at_once_and_a_critical_message_bypasses_quiet_hours() -> None:
    quiet = Wishes({}, NIGHT, None, BERLIN)
    for type, held in (("log_reminder", berlin("2026-11-24T07:00")), ("schedule_missed", None)):
        found = choose(kind_of(type), "ada", quiet, {Channel.EMAIL: EMAIL}, NOW)
        assert [each.status for each in found] == [Status.DELIVERED, Status.PENDING]
        assert found[1].not_before == held


def test_only_what_was_asked_for_goes_to_sms_and_chat() -> None:
    assert set(ways("log_reminder", Wishes())) == {"in_app", "email"}
    asked = Wishes({("log_reminder", Channel.SMS): True})
    assert ways("log_reminder", asked)["sms"] == "skipped the channel is not set up"


def test_waits_grow_and_end_with_the_message() -> None:
    chance = random.Random(1)
    waits = [wait_before(attempt, 0, None, chance) for attempt in range(1, len(WAITS) + 2)]
    for found, least in zip(waits, WAITS, strict=False):
        assert found is not None
        assert least <= found <= least * 1.2
    assert waits[-1] is None
    assert wait_before(3, 0, 10 * MINUTE, chance) is None
    assert wait_before(1, 0, 10 * MINUTE, chance) is not None
    assert sum(WAITS, timedelta()) == timedelta(minutes=261)


def test_a_link_is_only_good_with_its_key_and_unchanged() -> None:
    key, subscription = b"k" * 32, Subscription("ada", "log_reminder", "email")
    token = seal(subscription, key)
    assert unseal(token, key) == subscription
    assert unseal(token, b"x" * 32) is None
    for broken in ("", "!", token[:-4], token[1:], token + "AAAA"):
        assert unseal(broken, key) is None


@given(st.binary(max_size=300))
def test_no_bytes_break_the_reading_of_bounces(raw: bytes) -> None:
    with pytest.raises(Unreadable):
        read(raw)


def test_every_type_has_a_queue_a_priority_and_words_of_its_own() -> None:
    assert {kind.queue.value: kind.priority for kind in KINDS.values()} == {
        "manager-alerts": 10,
        "deadline-warnings": 7,
        "facilitator-reminders": 5,
    }


REPORT = (
    b'Content-Type: multipart/report; boundary="b"\r\n\r\n--b\r\n'
    b"Content-Type: message/delivery-status\r\n\r\nReporting-MTA: dns; mx\r\n\r\n"
    b"Action: failed\r\nStatus: 5.1.1\r\nFinal-Recipient: rfc822; %s\r\n--b--\r\n"
)


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
    ],
    ids=["words", "parameters", "brackets", "nested", "recipients"],
)
def test_a_mail_made_to_be_hard_to_read_is_read_or_refused_at_once(raw: bytes) -> None:
    """Anybody may write to a return path. With the email package's newest policy: minutes."""
    assert len(raw) < MAX_BYTES
    with contextlib.suppress(Unreadable):
        assert len(read(raw)) <= 50


def test_a_servers_words_lose_addresses_however_long_they_are() -> None:
    assert said("550 <mia@example.org>: no\r\n such  user") == "550 <***@example.org>: no such user"
    assert len(said("a" * 1_000_000)) == 300
