"""The sandbox is the other side: it must not read Homeroom's own idea of the contracts."""

from __future__ import annotations

import subprocess
import sys


def test_the_sandbox_loads_nothing_of_homeroom_but_itself() -> None:
    program = (
        "import sys, homeroom.sandbox.__main__\n"
        "print(*(name for name in sys.modules if name.startswith('homeroom.')), sep='\\n')"
    )
    loaded = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    ).stdout.split()
    assert "homeroom.sandbox.server" in loaded
    assert [name for name in loaded if not name.startswith("homeroom.sandbox")] == []
