"""Zip files whose bytes depend on their content and a given time alone (pure)."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Sequence
from datetime import UTC, datetime

_FIRST_YEAR, _LAST_YEAR = 1980, 2107


def build_zip(files: Sequence[tuple[str, bytes]], moment: datetime) -> bytes:
    """Pack files, all with the time ``moment``, into a zip file."""
    year = min(max(moment.year, _FIRST_YEAR), _LAST_YEAR)
    stamp = moment.astimezone(UTC).replace(year=year)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files:
            info = zipfile.ZipInfo(name, stamp.timetuple()[:6])
            info.compress_type = zipfile.ZIP_DEFLATED
            info.external_attr = 0o644 << 16
            archive.writestr(info, content)
    return buffer.getvalue()
