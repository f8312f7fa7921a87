"""The page of metrics names what a running server reports, and nothing else."""

from __future__ import annotations

import re
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families
from tests.support.code_blocks import ROOT
from tests.support.homeroom_process import ADMIN, server

pytestmark = pytest.mark.service
_ROW = re.compile(r"^\| `(\w+)` \| (counter|gauge|histogram) \| (.+?) \| (.+) \|$", re.MULTILINE)
_HEADER = re.compile(r"^# (HELP|TYPE) (\w+) (.+)$", re.MULTILINE)
_OF_EVERY_FAMILY = frozenset({"le", "process"})


def test_the_page_has_every_metric_of_a_server(tmp_path: Path) -> None:
    page = (ROOT / "docs/metrics.md").read_text(encoding="utf-8")
    rows = {name: (kind, text) for name, kind, _, text in _ROW.findall(page)}
    labels = {name: set(re.findall(r"`(\w+)`", found)) for name, _, found, _ in _ROW.findall(page)}
    with server(tmp_path) as url:
        report = httpx.get(f"{url}/metrics", headers=ADMIN).text
    headers: dict[str, dict[str, str]] = {"HELP": {}, "TYPE": {}}
    for part, name, value in _HEADER.findall(report):
        headers[part][name] = value
    assert rows == {
        name: (headers["TYPE"][name], headers["HELP"][name]) for name in headers["TYPE"]
    }
    seen = set()
    for family in text_string_to_metric_families(report):
        for sample in family.samples:
            name = re.sub(r"_(bucket|count|sum)$", "", sample.name)
            name = name if name in labels else sample.name
            assert set(sample.labels) - _OF_EVERY_FAMILY == labels[name], sample
            seen.add(name)
    assert len(seen) > 30
    assert "_created" not in report
