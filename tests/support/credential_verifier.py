"""An independent verifier of credentials: Digital Bazaar's packages in Node."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from tests.support.missing_server import skip_or_fail
from tools.servers.debian import Missing
from tools.servers.node import installed

HERE = Path(__file__).parents[1] / "service" / "credential_verifier"


@pytest.fixture(scope="session")
def verifier(request: pytest.FixtureRequest) -> Path:
    """Return the folder in which the packages are installed."""
    assert request.config.cache is not None
    folder = Path(request.config.cache.mkdir("credential-verifier"))
    try:
        return installed(HERE, folder)
    except Missing as missing:
        skip_or_fail(missing)


def verify(
    folder: Path, credentials: list[Any], documents: dict[str, Any], now: str
) -> list[dict[str, Any]]:
    """Return the verifier's results on credentials at an instant (RFC 3339).

    It reads keys, profile and status list from ``documents`` by their addresses.
    """
    text = json.dumps({"credentials": credentials, "documents": documents, "now": now})
    done = subprocess.run(
        ["node", "verify.mjs"], cwd=folder, input=text, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]
