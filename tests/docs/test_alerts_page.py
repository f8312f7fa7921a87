"""The page of alerts has the rules and the metrics as they are."""

from __future__ import annotations

import re
from pathlib import Path

from homeroom.monitoring.alert_rules import DEFAULT_RULES, THOUSAND
from homeroom.monitoring.history import HISTORY_METRICS

PAGE = Path(__file__).resolve().parents[2] / "docs" / "alerts.md"


def test_the_page_has_the_defaults_of_every_rule() -> None:
    text = PAGE.read_text(encoding="utf-8")
    table = text.split("<!-- rules: begin -->")[1].split("<!-- rules: end -->")[0]
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in table.strip().splitlines()[2:]
    ]
    shown = {row[0].strip("`"): (row[3], row[4], row[5], row[6]) for row in rows}
    assert shown == {
        rule.kind: (
            f"{'below' if rule.is_below else 'above'} {rule.threshold / THOUSAND:g} {rule.unit}",
            f"{rule.for_seconds} s",
            f"{rule.clear_seconds} s",
            rule.severity,
        )
        for rule in DEFAULT_RULES.values()
    }


def test_the_page_has_every_metric_of_the_history() -> None:
    history = PAGE.read_text(encoding="utf-8").split("## History")[1]
    shown = {
        name
        for line in history.splitlines()
        if line.startswith("| `")
        for name in re.findall(r"`(\w+)`", line.split("|")[1])
    }
    assert shown == HISTORY_METRICS.keys()
