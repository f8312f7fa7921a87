"""What a server loads: what is used now and then is not in the memory of an idle one."""

from __future__ import annotations

import subprocess
import sys

NOW_AND_THEN = ("alembic", "asyncpg", "babel", "css_inline", "docx", "jinja2", "reportlab", "redis")


def test_the_command_loads_nothing_that_is_used_now_and_then() -> None:
    code = (
        "import sys; import homeroom.cli, homeroom.wiring.serving;"
        f"print([name for name in {NOW_AND_THEN!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
