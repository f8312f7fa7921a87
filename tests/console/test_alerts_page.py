"""Alerts and the history in the console: seen on the overview, acknowledged, snoozed."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Page, expect
from tests.console.conftest import sign_in
from tests.console.test_console import has_focus, press_until, show
from tests.support.condition import until
from tests.support.console_school import ConsoleSchool

from homeroom.monitoring.alert_rules import DEFAULT_RULES

pytestmark = [pytest.mark.service, pytest.mark.xdist_group("console")]


def test_an_alert_on_the_overview_is_acknowledged_and_snoozed_by_keyboard(
    operator: Page, school: ConsoleSchool
) -> None:
    alert = school.wait_for_alert("failed_jobs")
    assert alert["acknowledgedAt"] is None
    show(operator, "/console", "Overview")
    banner = operator.get_by_role("main").get_by_role("link", name=re.compile(r"^\d+ alerts?:$"))
    expect(banner).to_be_visible()
    press_until(operator, lambda: has_focus(banner))
    operator.keyboard.press("Enter")
    expect(operator.get_by_role("heading", level=1, name="Alerts")).to_be_visible()
    row = operator.get_by_role("row", name=f"Jobs failed: {alert['subject']}")
    acknowledge = row.get_by_role("button", name="Acknowledge")
    press_until(operator, lambda: has_focus(acknowledge))
    operator.keyboard.press("Enter")
    expect(row).to_contain_text("Acknowledged by")
    expect(acknowledge).to_have_count(0)
    row.get_by_role("button", name="Snooze").click()
    operator.get_by_role("dialog").get_by_role("button", name="Snooze 4 h").click()
    expect(row).to_contain_text("Snoozed until")
    actions = {entry["action"] for entry in school.client.get("/api/v1/audit").json()["items"]}
    assert {"alert.acknowledged", "alert.snoozed"} <= actions
    operator.get_by_label("State").select_option("Cleared")
    expect(operator).to_have_url(re.compile("state=cleared"))
    expect(operator.get_by_role("row", name=f"Jobs failed: {alert['subject']}")).to_have_count(0)


def test_the_rules_are_shown_and_a_viewer_can_act_on_nothing(
    page: Page, school: ConsoleSchool
) -> None:
    school.wait_for_alert("failed_jobs")
    sign_in(page, school.key("viewer"))
    show(page, "/console/alerts", "Alerts")
    rules = page.get_by_role("region", name="Rules")
    expect(rules.get_by_role("row")).to_have_count(len(DEFAULT_RULES) + 1)
    expect(rules.get_by_role("row", name="No worker is running")).to_contain_text("below 1 worker")
    expect(page.get_by_role("main").get_by_role("button")).to_have_count(0)


def test_the_history_is_a_chart_with_a_table_of_the_same_figures(
    operator: Page, school: ConsoleSchool
) -> None:
    query = {"metric": "owed_steps"}

    def has_sample() -> bool:  # one is stored each minute
        [series] = school.client.get("/api/v1/metrics/history", params=query).json()["series"]
        return any(point["peak"] > 0 for point in series["points"])

    until(has_sample, 0.5, patience_seconds=90)
    show(operator, "/console", "Overview")
    owed = operator.get_by_role("img", name=re.compile("^Steps that are owed: at most [1-9]"))
    expect(owed).to_be_visible()
    operator.get_by_text("Steps that are owed as a table").click()
    table = operator.get_by_role("region", name="Steps that are owed")
    expect(table.get_by_role("row").nth(1)).to_be_visible()
    operator.get_by_role("button", name="Last day").click()
    expect(operator.get_by_role("button", name="Last day")).to_have_attribute(
        "aria-pressed", "true"
    )
    expect(owed).to_be_visible()
