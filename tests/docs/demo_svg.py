"""Draw what the demo prints, from a real run: ``python -m tests.docs.demo_svg > docs/demo.svg``."""

from __future__ import annotations

import asyncio
import io
import re
import sys
import tempfile
from pathlib import Path

from rich.console import Console

from homeroom.demo.environment import DemoOptions
from homeroom.demo.run import Presentation, run_demo

WIDTH = 118


def draw(learners: int = 200) -> str:
    """Play a class and return the picture; raise ``RuntimeError`` if a number is off."""
    console = Console(
        record=True, width=WIDTH, file=io.StringIO(), force_terminal=True, highlight=False
    )
    console.print("[bold]$ make run ARGS=--exit[/bold]")
    with tempfile.TemporaryDirectory(prefix="homeroom-", ignore_cleanup_errors=True) as folder:
        options = DemoOptions(Path(folder), learners=learners)
        if asyncio.run(run_demo(options, console, keep_serving=False, presentation=Presentation())):
            raise RuntimeError(console.export_text())
    picture = console.export_svg(title="Homeroom", unique_id="demo")
    # The picture loads no fonts: readers without them see their own.
    return re.sub(r"@font-face \{.*?\}\n", "", picture, flags=re.DOTALL)


if __name__ == "__main__":
    sys.stdout.write(draw())
