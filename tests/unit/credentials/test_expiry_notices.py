"""The notice that is due before the end of a validity."""

from __future__ import annotations

import pytest

from homeroom.credentials.learner_messages import notice_due
from homeroom.instant import DAY


@pytest.mark.parametrize(
    ("length", "age", "days"),
    [
        (100, 69, None),
        (100, 70, 30),
        (100, 92, 30),
        (100, 93, 7),
        (100, 99, 7),
        (100, 100, None),
        (30, 1, None),
        (30, 23, 7),
        (31, 1, 30),
        (7, 6, None),
    ],
)
def test_the_later_notice_replaces_the_earlier_one(length: int, age: int, days: int | None) -> None:
    assert notice_due(0, length * DAY, age * DAY) == days
