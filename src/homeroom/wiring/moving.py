"""Upgrade, back up, restore, judge and copy the database that the settings name."""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path

from homeroom.db import backup, copy, migrate
from homeroom.db.archive import Manifest
from homeroom.db.backup import Restored, Verdict
from homeroom.db.copy import Copied
from homeroom.errors import HomeroomError
from homeroom.progress.api import PROOF
from homeroom.settings import Settings
from homeroom.wiring.records import RECORDS


def keys_folder(settings: Settings) -> Path:
    """Return where secret files are, which a backup has to hold as well."""
    return settings.data_dir / "keys"


def upgrade_database(settings: Settings) -> Path | None:
    """Bring the database to this release's schema; make it if it is not there.

    A SQLite file that is going to change is backed up beside itself first: returns that backup.
    """
    place = settings.database_place
    kept = None
    if isinstance(place, Path):
        kept = backup.back_up_before_upgrade(place, keys_folder(settings), PROOF)
    migrate.upgrade(place)
    return kept


def upgrade_apart(settings: Settings) -> Path | None:
    """Do what ``upgrade_database`` does, where there is something to do, in another process.

    Raises what that raises, and ``HomeroomError`` if the process ends without a word.
    """
    now = migrate.standing(settings.database_place)
    if now.current == now.head or now.is_newer:
        return None
    done = subprocess.run(
        [sys.executable, "-m", "homeroom.wiring.upgrading"],
        input=pickle.dumps(settings),
        stdout=subprocess.PIPE,
        check=False,
    )
    if done.returncode != 0:
        raise HomeroomError(
            f"The upgrade of {settings.database_name} ended with {done.returncode}.",
            hint="What it said stands above. Try it alone with: homeroom db upgrade",
        )
    kept: Path | HomeroomError | None = pickle.loads(done.stdout)  # noqa: S301 - from its pipe
    if isinstance(kept, HomeroomError):
        raise kept
    return kept


def back_up(settings: Settings, file: Path) -> Manifest:
    """Write a backup of the database and of the secret files; ``db.backup`` says what is raised."""
    return backup.back_up(settings.database_place, file, keys_folder(settings), PROOF)


def restore(settings: Settings, file: Path, *, force: bool) -> Restored:
    """Put a backup in the place of the database; ``db.backup`` says what is raised."""
    keys = keys_folder(settings)
    return backup.restore(settings.database_place, file, keys, PROOF, RECORDS, force=force)


def verify(settings: Settings, file: Path | None) -> Verdict:
    """Judge a backup, or the database itself."""
    if file is None:
        return backup.verify(settings.database_place, PROOF)
    return backup.verify_backup(file, PROOF)


def copy_database(settings: Settings, target: Settings, *, rehearse: bool) -> Copied:
    """Copy all that the database holds into another one; ``db.copy`` says what is raised."""
    return copy.copy(settings.database_place, target.database_place, PROOF, rehearse=rehearse)
