"""The reading of bounces against the samples of a library that knows many mail servers."""

from __future__ import annotations

import os

import pytest
from tests.support.bounce_samples import bounce_samples

from homeroom.notify.bounce_mail import UnreadableNotice, parse_notices

pytestmark = pytest.mark.service


def test_the_samples_of_flufl_bounce_are_read_with_the_same_verdict() -> None:
    samples = bounce_samples()
    if not samples and not os.environ.get("CI"):
        pytest.skip("no package registry can be reached")
    assert len(samples) > 100
    read = same = 0
    for sample in samples:
        try:
            kinds = {each.kind for each in parse_notices(sample.raw)}
        except UnreadableNotice:
            continue
        if kinds <= {"hard", "soft", "block", "delayed"}:
            read += 1
            same += (kinds == {"delayed"}) is sample.is_temporary
    assert read / len(samples) >= 0.95  # all 111
    assert same / read >= 0.95  # 110 of them
