"""Modules that a server loads only when it needs them."""

from __future__ import annotations

import subprocess
import sys

LOADED_ON_DEMAND = (
    "alembic",
    "asyncpg",
    "babel",
    "css_inline",
    "docx",
    "openpyxl",
    "jinja2",
    "reportlab",
    "redis",
)


def test_a_server_starts_without_modules_of_rare_tasks() -> None:
    code = (
        "import sys; import homeroom.cli, homeroom.bootstrap.server;"
        f"print([name for name in {LOADED_ON_DEMAND!r} if name in sys.modules])"
    )
    completed = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert completed.stdout.strip() == "[]"
