"""Alerts from the command line."""

from __future__ import annotations

from typing import Any

_COLUMNS = (
    "id, open_key, rule, subject, group_name, severity, state, value, threshold, detail, since,"
    " raised_at, raised_count, updated_at"
)


def test_an_alert_is_listed_acknowledged_and_snoozed(terminal: Any) -> None:
    assert "There are no open alerts." in terminal.ok("alerts", "list").out
    terminal.rows(
        f"INSERT INTO alert ({_COLUMNS}) VALUES ('a1', 'destination|hr', 'destination', 'hr',"
        " 'partner:hr', 'warning', 'open', 90000, 0, 'It is away.', 1795338000000000,"
        " 1795338000000000, 1, 1795338000000000)"
    )
    [alert] = terminal.ok("alerts", "list", "--json").json["items"]
    assert (alert["rule"], alert["value"], alert["unit"]) == ("destination", 90.0, "seconds")
    assert alert["raisedAt"].startswith("2026-11-22T09:00:00")
    assert alert["since"] == alert["raisedAt"]
    done = terminal.ok("alerts", "acknowledge", "a1", "--why", "HR updates", "--json").json
    assert (done["acknowledgedWhy"], done["state"]) == ("HR updates", "open")
    assert "snoozed until" in terminal.ok("alerts", "snooze", "a1", "--for", "4h").out
    assert "acknowledged by" in terminal.ok("alerts", "list").out
    assert terminal.rows("SELECT action FROM audit ORDER BY id") == [
        ("alert.acknowledged",),
        ("alert.snoozed",),
    ]
    assert terminal("alerts", "snooze", "a1", "--for", "8d").code == 2
    assert terminal("alerts", "acknowledge", "a2").code == 4
    terminal.rows("UPDATE alert SET state = 'cleared', open_key = NULL")
    assert terminal("alerts", "acknowledge", "a1").code == 5
    assert terminal("alerts", "list", "--state", "loud").code == 2


def test_a_rule_is_changed_and_reset(terminal: Any) -> None:
    assert "above 300" in terminal.ok("alerts", "rules").out
    words = ("alerts", "set-rule", "queue_age", "--threshold", "600", "--for", "15m", "--off")
    [rule] = terminal.ok(*words, "--json").json["items"]
    assert (rule["threshold"], rule["forSeconds"], rule["enabled"]) == (600.0, 900, False)
    [rule] = terminal.ok("alerts", "set-rule", "queue_age", "--reset", "--json").json["items"]
    assert (rule["threshold"], rule["forSeconds"], rule["enabled"]) == (300.0, 600, True)
    assert terminal("alerts", "set-rule", "error_rate", "--threshold", "2").code == 2
    assert terminal("alerts", "set-rule", "weather").code == 2
