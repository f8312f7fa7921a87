"""The file of a backup: a ZIP with the data, secret files, and a manifest of all."""

from __future__ import annotations

import hashlib
import os
import re
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path, PurePosixPath

import msgspec

from homeroom import __version__
from homeroom.backup.table_counts import TableCounts
from homeroom.clock import Clock
from homeroom.errors import BadRequest, Conflict, HomeroomError
from homeroom.instant import to_rfc3339

ARCHIVE_FORMAT = 1
MANIFEST_NAME = "manifest.json"
DATA_NAMES = {"sqlite": "database.sqlite", "postgresql": "database.dump"}
KEYS_PREFIX = "keys/"
"""The folder of the secret files in a backup."""
_CHUNK_BYTES = 1024 * 1024
_MAX_MANIFEST_BYTES = 1024 * 1024
_TABLE_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_READ_ERRORS = (zipfile.BadZipFile, zlib.error, EOFError, ValueError, NotImplementedError)


class BackupDamaged(HomeroomError):
    """The backup is damaged."""

    code = "damaged"


class ArchiveMember(msgspec.Struct, frozen=True):
    """One file in a backup."""

    name: str
    bytes: int
    sha256: str


class BackupManifest(msgspec.Struct, frozen=True, rename="camel"):
    """The contents of a backup; ``kind`` is the kind of its database."""

    format: int
    homeroom: str
    made_at: str
    kind: str
    revision: str | None
    tables: dict[str, int]
    totals: dict[str, int]
    files: list[ArchiveMember]

    @property
    def table_counts(self) -> TableCounts:
        """Return the revision, row counts and totals of the database."""
        return TableCounts(self.revision, self.tables, self.totals)

    @property
    def data(self) -> ArchiveMember:
        """Return the file of the database."""
        return self.files[0]

    @property
    def keys(self) -> list[ArchiveMember]:
        """Return the secret files."""
        return self.files[1:]


def create_archive(
    file: Path, kind: str, counts: TableCounts, data: Path, keys: Mapping[str, Path]
) -> BackupManifest:
    """Create a backup; it gets its name once it is complete and on the disk.

    ``keys`` are secret files by their name. Raises ``Conflict`` for a file that exists already.
    """
    sources = {DATA_NAMES[kind]: data} | {KEYS_PREFIX + name: path for name, path in keys.items()}
    manifest = BackupManifest(
        format=ARCHIVE_FORMAT,
        homeroom=__version__,
        made_at=to_rfc3339(Clock().now()),
        kind=kind,
        revision=counts.revision,
        tables=dict(counts.tables),
        totals=dict(counts.totals),
        files=[_describe_member(name, path) for name, path in sources.items()],
    )
    with create_whole_file(file) as part:
        with zipfile.ZipFile(part, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as target:
            target.writestr(MANIFEST_NAME, msgspec.json.format(msgspec.json.encode(manifest)))
            for name, path in sources.items():
                # pg_dump compresses its file itself.
                method = zipfile.ZIP_STORED if path.suffix == ".dump" else zipfile.ZIP_DEFLATED
                target.write(path, name, compress_type=method)
        sync_to_disk(part)
    return manifest


def require_new_file(file: Path) -> None:
    """Raise ``Conflict`` for an existing file, ``BadRequest`` for a missing folder."""
    if file.exists():
        raise Conflict(f"{file} is there already.", hint="Name another file, or move it away.")
    if not file.parent.is_dir():
        raise BadRequest(
            f"There is no folder {file.parent}.", hint="Create the folder, or name another one."
        )


@contextmanager
def create_whole_file(file: Path) -> Iterator[Path]:
    """Open a private file that gets the name ``file`` after the block.

    It is removed on an error.
    """
    require_new_file(file)
    part = temporary_path_beside(file, "part")
    part.touch(mode=0o600)
    try:
        yield part
        try:
            os.link(part, file)  # unlike a rename, this replaces no file
        except FileExistsError as error:
            raise Conflict(f"Another process created {file} meanwhile.") from error
        sync_to_disk(file.parent)
    finally:
        part.unlink(missing_ok=True)


def temporary_path_beside(file: Path, word: str) -> Path:
    """Return a path of this process beside a file; remove an existing file there."""
    path = file.with_name(f".{file.name}.{word}-{os.getpid()}")
    for suffix in ("", "-wal", "-shm", "-journal"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
    return path


def sync_to_disk(path: Path) -> None:
    """Wait until a file, or the list of a folder, is on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _describe_member(name: str, path: Path) -> ArchiveMember:
    with path.open("rb") as source:
        digest = hashlib.file_digest(source, "sha256")
    return ArchiveMember(name, path.stat().st_size, digest.hexdigest())


class BackupArchive:
    """A backup that is open for reading."""

    def __init__(self, file: Path, archive: zipfile.ZipFile, manifest: BackupManifest) -> None:
        """Use an open ZIP and its manifest; see ``open_archive``."""
        self.file, self.manifest, self._zip = file, manifest, archive

    def extract(self, member: ArchiveMember, to: Path) -> None:
        """Write a file of it; raise ``BackupDamaged`` if it differs from the manifest."""
        digest, size = hashlib.sha256(), 0
        to.touch(mode=0o600)
        try:
            with self._zip.open(member.name) as source, to.open("wb") as target:
                while chunk := source.read(_CHUNK_BYTES):
                    size += len(chunk)
                    if size > member.bytes:
                        break
                    digest.update(chunk)
                    target.write(chunk)
        except (*_READ_ERRORS, KeyError) as error:
            raise BackupDamaged(f"{self.file} is damaged: {member.name} cannot be read.") from error
        if size != member.bytes or digest.hexdigest() != member.sha256:
            raise BackupDamaged(
                f"{self.file} is damaged: {member.name} does not match the manifest."
            )


@contextmanager
def open_archive(file: Path) -> Iterator[BackupArchive]:
    """Open a backup; raise ``BadRequest`` for any other file or a newer format."""
    if not file.is_file():
        raise BadRequest(f"There is no file {file}.")
    with ExitStack() as stack:
        try:
            archive = stack.enter_context(zipfile.ZipFile(file))
            info = archive.getinfo(MANIFEST_NAME)
        except (*_READ_ERRORS, KeyError) as error:
            raise BadRequest(
                f"{file} is not a backup of Homeroom, or it is incomplete.",
                hint="Create one with: homeroom db backup FILE",
            ) from error
        try:
            text = archive.read(info) if info.file_size <= _MAX_MANIFEST_BYTES else b""
        except _READ_ERRORS as error:
            raise BackupDamaged(f"{file} is damaged: its manifest cannot be read.") from error
        yield BackupArchive(file, archive, _decode_manifest(file, text))


def _decode_manifest(file: Path, text: bytes) -> BackupManifest:
    try:
        version = msgspec.json.decode(text, type=dict[str, object]).get("format")
        if version != ARCHIVE_FORMAT:
            raise BadRequest(
                f"{file} has the backup format {version}; this release reads {ARCHIVE_FORMAT}.",
                hint="Restore it with the release that created it, or a later one.",
            )
        manifest = msgspec.json.decode(text, type=BackupManifest)
    except msgspec.MsgspecError as error:
        raise BackupDamaged(f"{file} is damaged: its manifest cannot be read.") from error
    names = [member.name for member in manifest.files]
    is_valid = names[:1] == [DATA_NAMES.get(manifest.kind)] and all(map(_is_key_name, names[1:]))
    if not is_valid or not all(map(_TABLE_NAME.fullmatch, manifest.tables)):
        raise BackupDamaged(f"{file} is damaged: its manifest has invalid names.")
    return manifest


def _is_key_name(name: str) -> bool:
    """Return whether a name stays within the folder of keys."""
    path = PurePosixPath(name.removeprefix(KEYS_PREFIX))
    inside = not path.is_absolute() and ".." not in path.parts and path.parts
    return name.startswith(KEYS_PREFIX) and bool(inside) and "\\" not in name
