"""Rules of deliveries: transitions, channels and reasons, quiet hours, retries."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homeroom.notify.channel_selection import (
    ChannelAddress,
    NotificationPreferences,
    QuietHours,
    next_digest_at,
    plan_deliveries,
)
from homeroom.notify.delivery_rules import (
    DELIVERY_TRANSITIONS,
    RESENDABLE_STATUSES,
    RETRY_DELAYS,
    DeliveryStatus,
    ReasonCode,
    retry_delay,
    statuses_before,
)
from homeroom.notify.message import MESSAGE_TYPES, Channel, get_message_type

BERLIN = ZoneInfo("Europe/Berlin")
MINUTE = 60_000_000


def berlin(text: str) -> int:
    moment = datetime.fromisoformat(text).replace(tzinfo=BERLIN).astimezone(UTC)
    return round(moment.timestamp()) * 1_000_000


def test_a_complaint_is_final_and_every_other_end_can_be_resent() -> None:
    assert DELIVERY_TRANSITIONS[DeliveryStatus.COMPLAINED] == frozenset()
    ended = set(DeliveryStatus) - {
        DeliveryStatus.PENDING,
        DeliveryStatus.SENDING,
        DeliveryStatus.ACCEPTED,
        DeliveryStatus.DELIVERED,
    }
    assert ended - {DeliveryStatus.COMPLAINED} == RESENDABLE_STATUSES
    assert DeliveryStatus.PENDING not in DELIVERY_TRANSITIONS[DeliveryStatus.ACCEPTED]
    assert DeliveryStatus.SENDING not in DELIVERY_TRANSITIONS[DeliveryStatus.SENDING]


def test_a_delivery_is_accepted_only_while_it_is_sent() -> None:
    assert statuses_before(DeliveryStatus.ACCEPTED) == [DeliveryStatus.SENDING]
    assert statuses_before(DeliveryStatus.UNKNOWN) == [DeliveryStatus.SENDING]


def test_every_reason_code_is_documented() -> None:
    page = (Path(__file__).parents[3] / "docs" / "messages.md").read_text()
    assert [code.value for code in ReasonCode if f"`{code.value}`" not in page] == []


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
def test_quiet_hours_end_at_a_local_time(hours: QuietHours, now: str, ends: str | None) -> None:
    assert hours.ends_at(berlin(now), BERLIN) == (None if ends is None else berlin(ends))


def test_quiet_hours_that_end_in_the_repeated_hour_end_later_and_not_in_the_past() -> None:
    midnight = berlin("2026-10-25T00:00")
    hours = QuietHours(22 * 60, 2 * 60 + 45)  # 02:45 is 165 and 225 minutes after midnight
    for minutes, ends in ((130, 165), (164, 165), (166, None), (190, 225), (225, None)):
        found = hours.ends_at(midnight + minutes * MINUTE, BERLIN)
        assert found == (None if ends is None else midnight + ends * MINUTE)


def test_a_digest_is_due_today_or_tomorrow() -> None:
    assert next_digest_at(berlin("2026-11-23T16:59"), 1_020, BERLIN) == berlin("2026-11-23T17:00")
    assert next_digest_at(berlin("2026-11-23T17:00"), 1_020, BERLIN) == berlin("2026-11-24T17:00")


@given(st.integers(0, 1_439), st.integers(0, 1_439), st.integers(0, 2 * 10**15))
def test_quiet_hours_end_later_and_within_a_day(start: int, end: int, now: int) -> None:
    ends = QuietHours(start, end).ends_at(now, BERLIN)
    assert ends is None or now < ends <= now + 25 * 60 * MINUTE


EMAIL = ChannelAddress("ada@example.org")
NOW = berlin("2026-11-23T23:00")


def plan(
    type: str,
    preferences: NotificationPreferences,
    address: ChannelAddress = EMAIL,
) -> dict[str, tuple[DeliveryStatus, ReasonCode | None]]:
    """Return the status and the reason of each channel's delivery."""
    planned = plan_deliveries(
        get_message_type(type), "ada", preferences, {Channel.EMAIL: address}, NOW
    )
    return {
        each.channel.value: (each.status, None if each.reason is None else each.reason.code)
        for each in planned
    }


def test_a_suppression_goes_before_a_preference_and_a_preference_before_quiet_hours() -> None:
    off = NotificationPreferences({("log_reminder", Channel.EMAIL): False}, NIGHT, None, BERLIN)
    suppressed = ChannelAddress("ada@example.org", None, "hard")
    assert plan("log_reminder", off, suppressed)["email"] == (
        DeliveryStatus.SUPPRESSED,
        ReasonCode.SUPPRESSED,
    )
    assert plan("log_reminder", off)["email"] == (
        DeliveryStatus.SKIPPED,
        ReasonCode.PREFERENCE_OFF,
    )
    assert plan("compliance_warning", off)["email"] == (DeliveryStatus.PENDING, None)


def test_a_channel_without_an_address_or_a_server_is_skipped() -> None:
    default = NotificationPreferences()
    no_address = plan("log_reminder", default, ChannelAddress(None))
    assert no_address["email"] == (DeliveryStatus.SKIPPED, ReasonCode.NO_ADDRESS)
    no_server = ChannelAddress("ada@example.org", "HOMEROOM_SMTP_URL is not set")
    [_, email] = plan_deliveries(
        get_message_type("log_reminder"), "ada", default, {Channel.EMAIL: no_server}, NOW
    )
    assert email.reason is not None
    assert email.reason.code is ReasonCode.CHANNEL_OFF
    assert email.reason.text == "HOMEROOM_SMTP_URL is not set"


@pytest.mark.parametrize(
    ("cause", "text"),
    [
        ("hard", "The address is suppressed after a hard bounce."),
        ("soft", "The address is suppressed after repeated soft bounces."),
        ("complaint", "The address is suppressed after a complaint."),
    ],
)
def test_the_reason_of_a_suppression_names_its_cause(cause: str, text: str) -> None:
    address = ChannelAddress("ada@example.org", None, cause)
    [_, email] = plan_deliveries(
        get_message_type("late_log"), "ada", NotificationPreferences(), {Channel.EMAIL: address}, 0
    )
    assert email.reason is not None
    assert email.reason.text == text


def test_the_inbox_and_critical_messages_ignore_quiet_hours() -> None:
    quiet = NotificationPreferences({}, NIGHT, None, BERLIN)
    for type, not_before in (
        ("log_reminder", berlin("2026-11-24T07:00")),
        ("schedule_missed", None),
    ):
        found = plan_deliveries(get_message_type(type), "ada", quiet, {Channel.EMAIL: EMAIL}, NOW)
        assert [each.status for each in found] == [DeliveryStatus.DELIVERED, DeliveryStatus.PENDING]
        assert found[1].not_before == not_before


def test_sms_and_chat_are_used_only_where_they_were_chosen() -> None:
    assert set(plan("log_reminder", NotificationPreferences())) == {"in_app", "email"}
    chosen = NotificationPreferences({("log_reminder", Channel.SMS): True})
    assert plan("log_reminder", chosen)["sms"] == (DeliveryStatus.SKIPPED, ReasonCode.CHANNEL_OFF)


def test_retry_delays_grow_and_end_before_the_message_expires() -> None:
    random_source = random.Random(1)
    delays = [
        retry_delay(attempt, 0, None, random_source) for attempt in range(1, len(RETRY_DELAYS) + 2)
    ]
    for found, least in zip(delays, RETRY_DELAYS, strict=False):
        assert found is not None
        assert least <= found <= least * 1.2
    assert delays[-1] is None
    assert retry_delay(3, 0, 10 * MINUTE, random_source) is None
    assert retry_delay(1, 0, 10 * MINUTE, random_source) is not None
    assert sum(RETRY_DELAYS, timedelta()) == timedelta(minutes=261)


def test_every_queue_has_one_priority() -> None:
    assert {each.queue.value: each.priority for each in MESSAGE_TYPES.values()} == {
        "manager-alerts": 10,
        "deadline-warnings": 7,
        "facilitator-reminders": 5,
        "learner-messages": 3,
    }


@pytest.mark.parametrize("name", sorted(MESSAGE_TYPES))
def test_a_suspended_person_gets_no_message_on_any_channel(name: str) -> None:
    addresses = {Channel.EMAIL: ChannelAddress("ada@example.org")}
    choices = {(name, channel): True for channel in Channel}
    for suspended in (False, True):
        preferences = NotificationPreferences(choices, is_suspended=suspended)
        planned = plan_deliveries(get_message_type(name), "ada", preferences, addresses, 0)
        assert len(planned) == len(Channel)
        codes = {None if each.reason is None else each.reason.code for each in planned}
        if suspended:
            assert {each.status for each in planned} == {DeliveryStatus.SKIPPED}
            assert codes == {ReasonCode.PERSON_SUSPENDED}
        else:
            assert None in codes
