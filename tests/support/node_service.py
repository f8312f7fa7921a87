"""The Node service of `examples/node-service`, installed once and kept between runs."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.support.missing_server import skip_or_fail
from tools.servers.debian import Missing
from tools.servers.node import installed

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "node-service"


@pytest.fixture(scope="session")
def node_service(request: pytest.FixtureRequest) -> Path:
    """Return a folder with the example and its packages, exactly those of its lock file."""
    assert request.config.cache is not None
    folder = Path(request.config.cache.mkdir("node-service"))
    try:
        return installed(EXAMPLE, folder)
    except Missing as missing:
        skip_or_fail(missing)
