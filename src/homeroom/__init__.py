"""Keep the back office of a learning platform: progress in, and everything that must follow."""

from importlib.metadata import version

__version__ = version("homeroom")
