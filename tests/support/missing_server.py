"""Skipped tests: a server that they need is not installed."""

from __future__ import annotations

import os
from typing import NoReturn

import pytest
from tools.servers.debian import Missing


def skip_or_fail(missing: Missing) -> NoReturn:
    """Skip the test on a developer's machine; fail it in CI, which has to have the server."""
    if os.environ.get("CI", "").lower() in {"1", "true", "yes"}:
        pytest.fail(str(missing))
    pytest.skip(str(missing))
