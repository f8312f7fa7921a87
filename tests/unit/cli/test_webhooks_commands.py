"""Testing a receiver of webhooks from the command line."""

from __future__ import annotations

from typing import Any

import pytest


def test_a_test_message_says_what_to_set_or_why_it_was_not_accepted(
    terminal_on_file: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    unset = terminal_on_file("webhooks", "test", "hr")
    assert unset.code == 5
    assert "HOMEROOM_HR_URL is not set" in unset.err
    assert terminal_on_file("webhooks", "test", "credly").code == 4
    monkeypatch.setenv("HOMEROOM_HR_URL", "http://127.0.0.1:9")  # nothing listens there
    monkeypatch.setenv("HOMEROOM_HR_WEBHOOK_SECRET", "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD")
    away = terminal_on_file("webhooks", "test", "hr")
    assert away.code == 3
    assert "the HR system cannot be reached" in away.err
    assert terminal_on_file.rows("SELECT action, subject FROM audit") == [
        ("destination.tested", "hr")
    ]
