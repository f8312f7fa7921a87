"""LibreOffice Writer without a display: found, or installed from Debian's packages."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from tools.servers.debian import found_or_installed

_NAMES = ("soffice", "libreoffice")
_TIMEOUT_SECONDS = 120


def need_libreoffice() -> Path:
    """Return the path of the program; raise ``Missing``."""
    return found_or_installed("libreoffice-writer-nogui", _find)


def convert_to_pdf(document: Path, folder: Path) -> Path:
    """Convert a document to PDF in a folder, as a user's word processor shows it.

    The folder also holds a profile, so that several conversions run side by side. Raises
    ``Missing``, and ``RuntimeError`` if no file was made.
    """
    profile = folder / "libreoffice-profile"
    words = [
        str(need_libreoffice()),
        f"-env:UserInstallation={profile.as_uri()}",
        "--headless",
        "--convert-to",
        "pdf",
        "--outdir",
        str(folder),
        str(document),
    ]
    done = subprocess.run(
        words, capture_output=True, text=True, timeout=_TIMEOUT_SECONDS, check=False
    )
    made = folder / f"{document.stem}.pdf"
    if not made.is_file():
        raise RuntimeError(f"LibreOffice made no PDF: {done.stdout} {done.stderr}")
    return made


def _find() -> Path | None:
    found = (shutil.which(name) for name in _NAMES)
    return next((Path(path) for path in found if path), None)
