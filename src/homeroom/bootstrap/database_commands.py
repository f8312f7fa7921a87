"""Upgrade, back up, restore, verify and copy the configured database."""

from __future__ import annotations

import asyncio
import pickle
import subprocess
import sys
from pathlib import Path

from homeroom.access.api import record_audit
from homeroom.backup import backup_and_restore, copy
from homeroom.backup.archive import BackupManifest
from homeroom.backup.backup_and_restore import (
    RestoreResult,
    RestoreStatement,
    VerificationResult,
)
from homeroom.backup.copy import CopyResult, CopySide
from homeroom.backup.erasure_replay import ErasureReplay
from homeroom.bootstrap.database import open_database
from homeroom.bootstrap.personal_data import PERSONAL_DATA
from homeroom.changes.api import END_EPOCH
from homeroom.db import migrate
from homeroom.db.seal import InstallationSealed, Seal, find_seal, remove_seal, sealed_error
from homeroom.errors import Conflict, HomeroomError
from homeroom.progress.api import INTEGRITY_RULES
from homeroom.settings import Settings

SchemaState = migrate.SchemaState
"""The type for commands, which may not import the database."""


def keys_folder(settings: Settings) -> Path:
    """Return the folder of the secret files, which a backup includes."""
    return settings.data_dir / "keys"


def compare_schema(settings: Settings) -> SchemaState:
    """Compare the configured database with this release's schema.

    The tables of all features are loaded for this, by the imports of this module.
    """
    return migrate.schema_state(settings.database_location)


def upgrade_database(settings: Settings) -> Path | None:
    """Upgrade the database to this release's schema; create it if it is missing.

    A SQLite file that changes is backed up beside itself first. Returns that backup.
    """
    location = settings.database_location
    backup = None
    if isinstance(location, Path):
        backup = backup_and_restore.back_up_before_upgrade(
            location, keys_folder(settings), INTEGRITY_RULES
        )
    migrate.upgrade(location)
    return backup


def create_empty_database(settings: Settings) -> None:
    """Create the tables where there are none; raise ``Conflict`` if there are rows.

    A database with an earlier release's schema is refused when it is opened.
    """
    location = settings.database_location
    if migrate.revision_state(location).current is None:
        migrate.upgrade(location)
    elif backup_and_restore.database_has_rows(location):
        raise Conflict(
            f"{settings.database_name} holds rows already.",
            hint="Name a new database with HOMEROOM_DATA_DIR or HOMEROOM_DATABASE_URL.",
        )


def upgrade_in_subprocess(settings: Settings) -> Path | None:
    """Run ``upgrade_database`` in another process, if the schema is not current.

    A process keeps the memory that an upgrade needs, and a server may run for months.
    Raises the error of the upgrade, and ``HomeroomError`` if its process crashes.
    """
    state = migrate.revision_state(settings.database_location)
    if state.current == state.head or state.is_newer:
        return None
    completed = subprocess.run(
        [sys.executable, "-m", "homeroom.bootstrap.upgrade_process"],
        input=pickle.dumps(settings),
        stdout=subprocess.PIPE,
        check=False,
    )
    if completed.returncode != 0:
        raise HomeroomError(
            f"The upgrade of {settings.database_name} exited with {completed.returncode}.",
            hint="Its output is above. Run it alone with: homeroom db upgrade",
        )
    result: Path | HomeroomError | None
    result = pickle.loads(completed.stdout)  # noqa: S301 - from its own pipe
    if isinstance(result, HomeroomError):
        raise result
    return result


def back_up_database(settings: Settings, file: Path) -> BackupManifest:
    """Write a backup of the database and the secret files."""
    return backup_and_restore.back_up_database(
        settings.database_location, file, keys_folder(settings), INTEGRITY_RULES
    )


def restore_database(settings: Settings, file: Path, *, force: bool) -> RestoreResult:
    """Replace the database by a backup."""
    keys = keys_folder(settings)
    erasures = ErasureReplay(
        recorded=PERSONAL_DATA.recorded_erasures, repeat=PERSONAL_DATA.repeat_erasures
    )
    return backup_and_restore.restore_database(
        settings.database_location,
        file,
        keys,
        INTEGRITY_RULES,
        erasures,
        [RestoreStatement(*END_EPOCH)],
        force=force,
    )


def verify_database(settings: Settings, file: Path | None) -> VerificationResult:
    """Verify a backup, or the database itself where ``file`` is None."""
    if file is None:
        return backup_and_restore.verify_database(settings.database_location, INTEGRITY_RULES)
    return backup_and_restore.verify_backup(file, INTEGRITY_RULES)


def copy_database(settings: Settings, target: Settings, *, rehearse: bool) -> CopyResult:
    """Copy the database into another one and seal it; ``rehearse`` writes nothing."""
    return copy.copy_installation(
        _copy_side(settings), _copy_side(target), INTEGRITY_RULES, rehearse=rehearse
    )


def _copy_side(settings: Settings) -> CopySide:
    location = settings.database_location
    name = str(location.absolute()) if isinstance(location, Path) else settings.database_name
    return CopySide(location, name)


def read_seal(settings: Settings) -> InstallationSealed | None:
    """Return the error of a database that must not run, with the seal in its details."""

    async def read() -> Seal | None:
        async with open_database(settings, sealed=True) as db, db.read() as tx:
            return await find_seal(tx)

    seal = asyncio.run(read())
    return None if seal is None else sealed_error(seal, settings.database_name)


def unseal_database(settings: Settings, actor: str) -> None:
    """Let a sealed database run again, and record that in the audit trail."""

    async def unseal() -> None:
        async with open_database(settings, sealed=True) as db, db.write() as tx:
            seal = await remove_seal(tx)
            if seal is not None:
                details = {"role": seal.role, "other": seal.other, "copyId": seal.copy_id}
                await record_audit(tx, actor, "installation.unseal", "installation", details)

    asyncio.run(unseal())
