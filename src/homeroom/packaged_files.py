"""Documentation and examples, as shipped in the wheel or from the checkout."""

from __future__ import annotations

from pathlib import Path

from homeroom.errors import HomeroomError

_PACKAGE = Path(__file__).resolve().parent
_CHECKOUT = _PACKAGE.parents[1]


class FilesMissing(HomeroomError):
    """Files that belong to Homeroom are not installed."""

    code = "files_missing"


def packaged_folder(name: str) -> Path:
    """Return the folder ``docs`` or ``examples``; raise ``FilesMissing`` without it.

    The build puts both into ``homeroom/share`` (``pyproject.toml``); a checkout has them at its
    root.
    """
    for parent in (_PACKAGE / "share", _CHECKOUT):
        folder = parent / name
        if folder.is_dir():
            return folder
    raise FilesMissing(
        f"This installation of Homeroom has no folder {name}.",
        hint="Install Homeroom again, from its wheel or its source distribution.",
    )
