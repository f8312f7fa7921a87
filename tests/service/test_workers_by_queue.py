"""A worker of some queues, started as an operator does it."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest
from tests.support.condition import until
from tests.support.homeroom_process import ADMIN, CommandLine, server

pytestmark = pytest.mark.service


def test_readiness_names_the_queues_that_no_worker_serves(tmp_path: Path) -> None:
    with (
        server(tmp_path, {"HOMEROOM_WORKER_QUEUES": "progress,upkeep"}) as url,
        httpx.Client(base_url=url, headers=ADMIN, timeout=30) as client,
    ):
        [worker] = until(lambda: client.get("/api/v1/workers").json())
        assert sorted(worker["queues"]) == ["progress", "upkeep"]
        check = client.get("/readyz").json()["checks"]["worker"]
        assert check["status"] == "degraded"
        assert "lessonplans" in check["detail"]
        assert "upkeep" not in check["detail"]
        shell = CommandLine(tmp_path)
        try:
            refused = shell("worker", "--queues", "progress,nowhere")
            assert refused.returncode == 78
            assert "'nowhere'" in refused.stderr
            assert "lessonplans" in refused.stderr
            other = shell.start("worker", "--queues", "lessonplans")
            until(lambda: len(client.get("/api/v1/workers").json()) == 2)
            detail = client.get("/readyz").json()["checks"]["worker"]["detail"]
            assert "lessonplans" not in detail
            other.terminate()
            assert other.wait(30) == 0
        finally:
            shell.close()
