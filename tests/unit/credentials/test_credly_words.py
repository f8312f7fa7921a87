"""Times and languages in Credly's words, and which badge is the one that was ordered."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homeroom.credentials.credly import Badge, Order, credly_locale, read_moment, write_moment
from homeroom.credentials.directory import Learner

AT = 1_795_338_000_123_456
ADA = Learner("ada", "ada@example.org", "Ada", "Okafor")
ORDER = Order("t", ADA, "ada@example.org", "Ada", "Okafor", AT, None)
BADGE = Badge("b", "pending", "2026-11-22 09:00:00 +0000", None, "ada")


@given(st.integers(min_value=0, max_value=4_102_444_800_000_000))
def test_what_is_written_is_read_to_the_second(instant: int) -> None:
    assert read_moment(write_moment(instant)) == instant - instant % 1_000_000


@pytest.mark.parametrize(
    "text",
    ["2026-11-22 10:00:00 +0100", "2026-11-22T09:00:00Z", "2026-11-22T04:00:00.000-05:00"],
)
def test_either_form_of_a_time_is_read(text: str) -> None:
    assert read_moment(text) == AT - AT % 1_000_000


@pytest.mark.parametrize("text", [None, "", "yesterday", "2026-11-22", "2026-11-22T09:00:00"])
def test_what_is_no_instant_is_none(text: str | None) -> None:
    assert read_moment(text) is None


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
    assert credly_locale(locale) == expected


def test_only_a_live_badge_of_the_same_learner_and_second_is_the_one_ordered() -> None:
    assert BADGE.is_for(ORDER)
    assert BADGE.is_for(replace(ORDER, issued_at=AT + 800_000))
    assert not BADGE.is_for(replace(ORDER, issued_at=AT + 1_000_000))
    assert not BADGE.is_for(replace(ORDER, learner=replace(ADA, id="ben")))
    assert not Badge("b", "revoked", BADGE.issued_at, None, "ada").is_for(ORDER)
    assert not Badge("b", "pending", None, None, "ada").is_for(ORDER)
