"""Readiness is degraded once Credly's key expires within a fortnight."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from homeroom.bootstrap import application
from homeroom.bootstrap.job_engine import open_engine
from homeroom.bootstrap.monitoring_app import build_health, build_watch
from homeroom.settings import load

pytestmark = [pytest.mark.anyio, pytest.mark.service]


@pytest.mark.parametrize(("days", "status"), [(30, "ok"), (13, "degraded")])
async def test_readiness_foresees_the_expiry_of_a_key(
    tmp_path: Path, days: int, status: str
) -> None:
    last_day = (datetime.now(UTC) + timedelta(days=days)).date()
    settings = load(
        data_dir=tmp_path,
        credly_url="http://127.0.0.1:9",
        credly_organization="school",
        credly_token="token-of-the-tests",
        credly_token_expires_on=last_day,
    )
    async with (
        open_engine(settings) as engine,
        application.open_application(settings, migrated=True) as opened,
    ):
        ready = await build_health(opened, engine, build_watch(opened)).ready()
        found = ready.checks["partners"]
        assert found.status == status
        assert (last_day.isoformat() in (found.detail or "")) is (status == "degraded")
