"""Files of a school's own words for one programme: ``school.toml`` and a logo.

They are in ``programmes/{programmeId}`` of the folder of templates; the name of the folder is the
programme's id, percent-encoded where it has other than letters, digits and ``-._~``.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

from pydantic import BaseModel, ConfigDict, ValidationError

from homeroom.errors import ConfigurationError
from homeroom.settings.field_types import HexColour, LinkTemplate, Mailbox, OneLine
from homeroom.settings.problem import SettingProblem

LOGO_MEDIA_TYPES = {".png": "image/png", ".jpg": "image/jpeg", ".gif": "image/gif"}
"""Formats that mail programs show, by suffix; SVG is none."""
MAX_LOGO_BYTES = 100 * 1024
_SIGNATURES = {
    ".png": b"\x89PNG\r\n\x1a\n",
    ".jpg": b"\xff\xd8\xff",
    ".gif": b"GIF8",
}
_SETTING = "HOMEROOM_TEMPLATE_DIR"


class SchoolFile(BaseModel):
    """The members of ``school.toml``; those that are left out are the installation's."""

    model_config = ConfigDict(extra="forbid")

    name: OneLine | None = None
    address: OneLine | None = None
    colour: HexColour | None = None
    reply_to: Mailbox | None = None
    programme_link: LinkTemplate | None = None
    facilitator_link: LinkTemplate | None = None


@dataclass(frozen=True, slots=True)
class ProgrammeFolder:
    """The folder of one programme below the folder of templates."""

    programme_id: str
    path: Path

    def read_school(self) -> SchoolFile:
        """Return the content of ``school.toml``; raise ``ConfigurationError``."""
        file = self.path / "school.toml"
        if not file.exists():
            return SchoolFile()
        try:
            return SchoolFile.model_validate(tomllib.loads(file.read_text(encoding="utf-8")))
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            member = ".".join(str(step) for step in first["loc"])
            raise ConfigurationError(f"{file}, {member}: {first['msg']}.") from error
        except (OSError, ValueError) as error:
            raise ConfigurationError(f"{file} cannot be read: {error}.") from error

    def find_logo(self) -> Path | None:
        """Return the file ``logo`` with a known suffix, or None."""
        files = (self.path / f"logo{suffix}" for suffix in LOGO_MEDIA_TYPES)
        return next((file for file in files if file.is_file()), None)


def list_programme_folders(template_dir: Path | None) -> Iterator[ProgrammeFolder]:
    """Return the folders of programmes, by name."""
    if template_dir is None or not (template_dir / "programmes").is_dir():
        return
    for path in sorted((template_dir / "programmes").iterdir()):
        if path.is_dir():
            yield ProgrammeFolder(unquote(path.name), path)


def read_logo(file: Path) -> tuple[str, bytes]:
    """Return the media type and the content of a logo; raise ``ConfigurationError``."""
    suffix = file.suffix.lower().replace(".jpeg", ".jpg")
    try:
        content = file.read_bytes()
    except OSError as error:
        raise ConfigurationError(f"{file} cannot be read: {error.strerror}.") from error
    if not content.startswith(_SIGNATURES.get(suffix, b"\0")) or len(content) > MAX_LOGO_BYTES:
        raise ConfigurationError(f"{file} is no PNG, JPEG or GIF file of 100 KiB at most.")
    return LOGO_MEDIA_TYPES[suffix], content


def school_file_problems(template_dir: Path | None) -> list[SettingProblem]:
    """Return the problems of the files of programmes."""
    problems = []
    for folder in list_programme_folders(template_dir):
        try:
            folder.read_school()
            logo = folder.find_logo()
            if logo is not None:
                read_logo(logo)
        except ConfigurationError as error:
            problems.append(SettingProblem(_SETTING, error.message, "Correct the file."))
    return problems
