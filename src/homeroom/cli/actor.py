"""Who the audit trail says used the command line."""

from __future__ import annotations

import getpass


def actor() -> str:
    """Return who the audit trail says did it: the user of this machine."""
    try:
        return f"cli:{getpass.getuser()}"
    except (KeyError, OSError, ImportError):  # an id without a name, as in a container
        return "cli"
