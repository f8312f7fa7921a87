"""The TypeScript client, installed once and kept between runs."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.support.missing_server import skip_or_fail
from tools.servers.debian import Missing
from tools.servers.node import installed

CLIENT = Path(__file__).resolve().parents[2] / "clients" / "typescript"


@pytest.fixture(scope="session")
def typescript_client(request: pytest.FixtureRequest) -> Path:
    """Return a copy of the package with exactly the tools of its lock file."""
    assert request.config.cache is not None
    folder = Path(request.config.cache.mkdir("typescript-client"))
    try:
        return installed(CLIENT, folder, run_scripts=True)
    except Missing as missing:
        skip_or_fail(missing)
