"""Documentation, examples and the console: from the wheel or the checkout."""

from __future__ import annotations

from pathlib import Path

from homeroom.errors import HomeroomError

_PACKAGE = Path(__file__).resolve().parent
_CHECKOUT = _PACKAGE.parents[1]
_PAGES_BESIDE_DOCS = ("CHANGELOG", "UPGRADE")
"""Pages for operators that lie at the root of a checkout, and beside ``docs`` in a wheel."""
_IN_CHECKOUT = {"console": "console/dist"}


class FilesMissing(HomeroomError):
    """Files that belong to Homeroom are not installed."""

    code = "files_missing"


def documentation_pages() -> dict[str, Path]:
    """Return the pages of the documentation by their names; raise ``FilesMissing``."""
    folder = packaged_folder("docs")
    files = [*folder.glob("*.md"), *(folder.parent / f"{name}.md" for name in _PAGES_BESIDE_DOCS)]
    return {file.stem: file for file in sorted(files) if file.is_file()}


def packaged_folder(name: str) -> Path:
    """Return the folder of ``docs``, ``examples`` or ``console``.

    The build puts them into ``homeroom/share`` (``pyproject.toml``); a checkout has them at its
    root, the console where ``make console`` built it. Raises ``FilesMissing``.
    """
    for folder in (_PACKAGE / "share" / name, _CHECKOUT / _IN_CHECKOUT.get(name, name)):
        if folder.is_dir():
            return folder
    raise FilesMissing(
        f"This installation of Homeroom has no folder {name}.",
        hint="Install Homeroom again, from its wheel or its source distribution.",
    )
