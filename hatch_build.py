"""Part of the build of a wheel: the console is built if the checkout has not built it yet."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class ConsoleBuildHook(BuildHookInterface[Any]):
    """Puts ``console/dist`` into wheels and source distributions."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Build the console; an editable installation finds it in the checkout."""
        if version == "editable" or (Path(self.root) / "console/dist/index.html").is_file():
            return
        runpy.run_path(str(Path(self.root) / "tools/build_console.py"))["build_console"]()
