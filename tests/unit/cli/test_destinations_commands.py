"""Partner systems from the command line."""

from __future__ import annotations

from typing import Any


def test_a_partner_that_is_away_is_shown_and_switched_on(terminal: Any) -> None:
    terminal.rows(
        "INSERT INTO partner (name, state, failures, opened_at, probe_at, probes, closed_at,"
        " released_at, last_error, last_status) VALUES ('credly', 'refused', 5,"
        " 1795338000000000, 1795338005000000, 0, 0, 0, 'Credly answered 401', 401)"
    )
    listed = terminal.ok("destinations", "list", "--json").json["items"]
    names = ["credly", "directory", "assessment", "analytics", "hr", "xapi", "mail"]
    assert [each["name"] for each in listed] == names
    assert listed[0]["state"] == "refused"
    assert listed[0]["since"].startswith("2026-11-22T09:00:00")
    assert listed[0]["lastError"] == "Credly answered 401"
    assert (listed[0]["lastSuccessAt"], listed[0]["waitingSteps"]) == (None, 0)
    assert "Credly answered 401" in terminal.ok("destinations", "list").out
    on = terminal.ok("destinations", "switch-on", "credly", "--json").json
    assert (on["state"], on["since"], on["heldJobs"]) == ("on", None, 0)
    assert terminal.rows("SELECT action, subject FROM audit") == [
        ("destination.switched_on", "credly")
    ]
    assert terminal("destinations", "switch-on", "mars").code == 4
