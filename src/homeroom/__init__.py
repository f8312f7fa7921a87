"""Homeroom, the back office of a learning platform."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    __version__: str
else:

    def __getattr__(name):
        """Read the version on first use: ``importlib.metadata`` is slow to load."""
        if name != "__version__":
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        globals()[name] = import_module("importlib.metadata").version("homeroom")
        return globals()[name]
