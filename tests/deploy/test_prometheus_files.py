"""The alert rules and the dashboard, by promtool and by a Prometheus that scrapes Homeroom."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
import yaml
from tests.support.code_blocks import ROOT
from tests.support.condition import until
from tests.support.console_school import COMPLETED, console_school
from tests.support.missing_server import skip_or_fail
from tools.servers import prometheus
from tools.servers.debian import Missing

FOLDER = ROOT / "deploy/prometheus"
RULES = FOLDER / "rules.yml"
DASHBOARD = json.loads((FOLDER / "grafana-dashboard.json").read_text(encoding="utf-8"))
WITHOUT_DATA = {
    "refused {{priority}}",
    "paused {{queue}}",
    "{{schedule}}",
    "{{destination}} {{outcome}}",
    "held {{partner}}",
    "{{channel}} {{status}}",
    "{{channel}}",
    "{{channel}} {{code_class}}",
    "{{reason}}",
    "logs {{state}}",
    "{{generator}} {{outcome}}",
    "{{currency}}",
    "limit {{instance}}",
    "{{cause}}",
    "failures {{cause}}",
    "lost log lines",
    "quarantined",
    "{{outcome}}",
    "deduplicated",
}
"""Queries that need not find anything in a school without mails, plans and faults."""


def _panels() -> list[dict[str, Any]]:
    return [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]


def _queries() -> list[tuple[str, str, str]]:
    """Return the title, the legend and the expression of each query of the dashboard."""
    return [
        (panel["title"], target["legendFormat"], target["expr"])
        for panel in _panels()
        for target in panel["targets"]
    ]


def test_rules_and_dashboard_name_what_exists() -> None:
    page = (ROOT / "docs/metrics.md").read_text(encoding="utf-8")
    known = set(re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE))
    known |= {f"{name}_{part}" for name in known for part in ("bucket", "count", "sum")}
    rules = [
        rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]
    ]
    named = [rule["expr"] for rule in rules] + [expression for _, _, expression in _queries()]
    spoken_of = {name for text in named for name in re.findall(r"\b(?:homeroom|process)_\w+", text)}
    assert len(spoken_of) > 40
    assert spoken_of <= known
    commands = (ROOT / "docs/cli.md").read_text(encoding="utf-8")
    fixes = [
        re.findall(r"`(homeroom [a-z]+(?: [a-z-]+)?)", rule["annotations"]["fix"]) for rule in rules
    ]
    for command in (command for found in fixes for command in found):
        assert f"Usage: {command} " in commands, command
    assert len({rule["alert"] for rule in rules}) == len(rules) == 18


@pytest.mark.parametrize(
    "words", [("check", "rules", "rules.yml"), ("test", "rules", "rules.test.yml")]
)
def test_promtool_accepts_the_rules(words: tuple[str, ...]) -> None:
    try:
        promtool = prometheus.need_promtool()
    except Missing as missing:
        skip_or_fail(missing)
    ended = subprocess.run(
        [promtool, *words], cwd=FOLDER, capture_output=True, text=True, timeout=60, check=False
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    tested = yaml.safe_load((FOLDER / "rules.test.yml").read_text())
    alerts = set(re.findall(r'alertname="(\w+)"', str(tested)))
    assert alerts == set(re.findall(r"alert: (\w+)", RULES.read_text()))


@contextmanager
def _prometheus(folder: Path, homeroom: str, token: str) -> Iterator[httpx.Client]:
    configuration = yaml.safe_load((FOLDER / "prometheus.yml").read_text(encoding="utf-8"))
    [scrape] = configuration["scrape_configs"]
    (folder / scrape["authorization"]["credentials_file"]).write_text(token + "\n")
    scrape |= {
        "scrape_interval": "1s",
        "static_configs": [{"targets": [urlsplit(homeroom).netloc]}],
    }
    configuration |= {"global": {"evaluation_interval": "1s"}, "rule_files": [str(RULES)]}
    try:
        with (
            prometheus.running(folder, yaml.safe_dump(configuration)) as url,
            httpx.Client(base_url=f"{url}/api/v1", timeout=30) as client,
        ):
            yield client
    except Missing as missing:
        skip_or_fail(missing)


@pytest.mark.service
def test_every_query_of_the_dashboard_runs_and_a_failure_raises_its_alert(tmp_path: Path) -> None:
    with (
        console_school(tmp_path) as school,
        _prometheus(tmp_path, school.url, school.key("viewer")) as client,
    ):

        def ask(expression: str) -> list[dict[str, Any]]:
            text = expression.replace("$__rate_interval", "15s")
            answer = client.get("/query", params={"query": text}).json()
            assert answer["status"] == "success", (expression, answer)
            found: list[dict[str, Any]] = answer["data"]["result"]
            return found

        until(lambda: ask("count_over_time(homeroom_build_info[1m]) > 2"))
        empty = [(title, legend) for title, legend, query in _queries() if not ask(query)]
        assert [each for each in empty if each[1] not in WITHOUT_DATA] == []
        values = {
            panel["title"]: float(ask(panel["targets"][0]["expr"])[0]["value"][1])
            for panel in _panels()
            if panel["type"] == "stat"
        }
        assert values["Workers"] == 1
        assert values["Failed jobs"] == values["Outstanding steps"] == len(COMPLETED)
        firing = 'ALERTS{alertname="HomeroomDeadJobs", alertstate="firing"}'
        [alert] = until(lambda: ask(firing))
        assert alert["metric"]["kind"] == "completion.hr"
        annotations = [each["expr"] for each in DASHBOARD["annotations"]["list"]]
        assert all(ask(expression) for expression in annotations)
