"""Times and languages in Credly's formats, and the match of badge and order."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homeroom.credentials.credly import (
    Badge,
    BadgeOrder,
    format_credly_time,
    nearest_credly_locale,
    parse_credly_time,
)
from homeroom.credentials.learner_lookup import LearnerRecord

AT = 1_795_338_000_123_456
ADA = LearnerRecord("ada", "ada@example.org", "Ada", "Okafor")
ORDER = BadgeOrder("t", ADA, "ada@example.org", "Ada", "Okafor", AT, None)
BADGE = Badge("b", "pending", "2026-11-22 09:00:00 +0000", None, "ada")


@given(st.integers(min_value=0, max_value=4_102_444_800_000_000))
def test_what_is_written_is_read_to_the_second(instant: int) -> None:
    assert parse_credly_time(format_credly_time(instant)) == instant - instant % 1_000_000


@pytest.mark.parametrize(
    "text",
    ["2026-11-22 10:00:00 +0100", "2026-11-22T09:00:00Z", "2026-11-22T04:00:00.000-05:00"],
)
def test_either_form_of_a_time_is_read(text: str) -> None:
    assert parse_credly_time(text) == AT - AT % 1_000_000


@pytest.mark.parametrize("text", [None, "", "yesterday", "2026-11-22", "2026-11-22T09:00:00"])
def test_what_is_no_instant_is_none(text: str | None) -> None:
    assert parse_credly_time(text) is None


@pytest.mark.parametrize(
    ("locale", "expected"),
    [
        ("de-DE", "de"),
        ("pt_br", "pt-BR"),
        ("pt-PT", "pt"),
        ("es", "es-ES"),
        ("zh", "zh-CN"),
        ("fr-CA", "fr-CA"),
        ("sw", None),
        (None, None),
    ],
)
def test_the_nearest_language_that_credly_has_is_taken(
    locale: str | None, expected: str | None
) -> None:
    assert nearest_credly_locale(locale) == expected


def test_only_a_live_badge_of_the_same_learner_and_second_is_the_one_ordered() -> None:
    assert BADGE.is_for(ORDER)
    assert BADGE.is_for(replace(ORDER, issued_at=AT + 800_000))
    assert not BADGE.is_for(replace(ORDER, issued_at=AT + 1_000_000))
    assert not BADGE.is_for(replace(ORDER, learner=replace(ADA, id="ben")))
    assert not Badge("b", "revoked", BADGE.issued_at, None, "ada").is_for(ORDER)
    assert not Badge("b", "pending", None, None, "ada").is_for(ORDER)
