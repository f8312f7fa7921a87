"""What a test does where a server cannot be had."""

from __future__ import annotations

import os
from typing import NoReturn

import pytest
from tools.servers.debian import Missing


def skip_or_fail(missing: Missing) -> NoReturn:
    """Skip where a person works without the server; a build has to have it."""
    if os.environ.get("CI", "").lower() in {"1", "true", "yes"}:
        pytest.fail(str(missing))
    pytest.skip(str(missing))
