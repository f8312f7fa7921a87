"""One file that holds a backup: a ZIP with the data, secret files, and a manifest of all of it."""

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
from homeroom.clock import Clock, to_rfc3339
from homeroom.db.inventory import Inventory
from homeroom.errors import BadRequest, Conflict, HomeroomError

FORMAT = 1
MANIFEST = "manifest.json"
DATA = {"sqlite": "database.sqlite", "postgresql": "database.dump"}
KEYS = "keys/"
"""Before the names of secret files in a backup."""
_PIECE = 1024 * 1024
_MANIFEST_BYTES = 1024 * 1024
_TABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_UNREADABLE = (zipfile.BadZipFile, zlib.error, EOFError, ValueError, NotImplementedError)


class Damaged(HomeroomError):
    """The backup is damaged."""

    code = "damaged"


class Member(msgspec.Struct, frozen=True):
    """One file in a backup."""

    name: str
    bytes: int
    sha256: str


class Manifest(msgspec.Struct, frozen=True, rename="camel"):
    """What a backup says of itself; ``kind`` is the kind of database that it was made of."""

    format: int
    homeroom: str
    made_at: str
    kind: str
    revision: str | None
    tables: dict[str, int]
    totals: dict[str, int]
    files: list[Member]

    @property
    def inventory(self) -> Inventory:
        """Return what the database held."""
        return Inventory(self.revision, self.tables, self.totals)

    @property
    def data(self) -> Member:
        """Return the file that the database is in."""
        return self.files[0]

    @property
    def keys(self) -> list[Member]:
        """Return the secret files."""
        return self.files[1:]


def write(file: Path, kind: str, held: Inventory, data: Path, keys: Mapping[str, Path]) -> Manifest:
    """Make a backup; it appears under its name once it is whole and on the disk.

    ``keys`` are secret files by their name. Raises ``Conflict`` for a file that is there already.
    """
    sources = {DATA[kind]: data} | {KEYS + name: path for name, path in keys.items()}
    manifest = Manifest(
        format=FORMAT,
        homeroom=__version__,
        made_at=to_rfc3339(Clock().now()),
        kind=kind,
        revision=held.revision,
        tables=dict(held.tables),
        totals=dict(held.totals),
        files=[_member(name, path) for name, path in sources.items()],
    )
    with new_file(file) as part:
        with zipfile.ZipFile(part, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as into:
            into.writestr(MANIFEST, msgspec.json.format(msgspec.json.encode(manifest)))
            for name, path in sources.items():
                # pg_dump has compressed its own
                packed = zipfile.ZIP_STORED if path.suffix == ".dump" else zipfile.ZIP_DEFLATED
                into.write(path, name, compress_type=packed)
        synced(part)
    return manifest


def refuse_existing(file: Path) -> None:
    """Raise ``Conflict`` for a file that is there already, ``BadRequest`` without its folder."""
    if file.exists():
        raise Conflict(f"{file} is there already.", hint="Name another file, or move it away.")
    if not file.parent.is_dir():
        raise BadRequest(f"There is no folder {file.parent}.", hint="Make it, or name another one.")


@contextmanager
def new_file(file: Path) -> Iterator[Path]:
    """Lend a private file beside ``file`` that takes its name at the end, and goes on an error."""
    refuse_existing(file)
    part = beside(file, "part")
    part.touch(mode=0o600)
    try:
        yield part
        try:
            os.link(part, file)  # unlike a renaming, this replaces nothing
        except FileExistsError as error:
            raise Conflict(f"{file} was made by somebody else meanwhile.") from error
        synced(file.parent)
    finally:
        part.unlink(missing_ok=True)


def beside(file: Path, word: str) -> Path:
    """Return a name for a file of this process beside another one; remove what has that name."""
    made = file.with_name(f".{file.name}.{word}-{os.getpid()}")
    for kin in ("", "-wal", "-shm", "-journal"):
        made.with_name(made.name + kin).unlink(missing_ok=True)
    return made


def synced(path: Path) -> None:
    """Wait until a file, or what a folder lists, is on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _member(name: str, path: Path) -> Member:
    with path.open("rb") as source:
        digest = hashlib.file_digest(source, "sha256")
    return Member(name, path.stat().st_size, digest.hexdigest())


class Archive:
    """A backup that is open for reading."""

    def __init__(self, file: Path, opened: zipfile.ZipFile, manifest: Manifest) -> None:
        """Take what ``opened`` has found."""
        self.file, self.manifest, self._zip = file, manifest, opened

    def extract(self, member: Member, to: Path) -> None:
        """Write one of its files; raise ``Damaged`` where it is not what the manifest says."""
        digest, size = hashlib.sha256(), 0
        to.touch(mode=0o600)
        try:
            with self._zip.open(member.name) as source, to.open("wb") as into:
                while piece := source.read(_PIECE):
                    size += len(piece)
                    if size > member.bytes:
                        break
                    digest.update(piece)
                    into.write(piece)
        except (*_UNREADABLE, KeyError) as error:
            raise Damaged(f"{self.file} is damaged: {member.name} cannot be read.") from error
        if size != member.bytes or digest.hexdigest() != member.sha256:
            raise Damaged(f"{self.file} is damaged: {member.name} is not what was put in.")


@contextmanager
def opened(file: Path) -> Iterator[Archive]:
    """Open a backup; raise ``BadRequest`` for a file that is none, or of a newer form."""
    if not file.is_file():
        raise BadRequest(f"There is no file {file}.")
    with ExitStack() as stack:
        try:
            found = stack.enter_context(zipfile.ZipFile(file))
            info = found.getinfo(MANIFEST)
        except (*_UNREADABLE, KeyError) as error:
            raise BadRequest(
                f"{file} is no backup of Homeroom's, or not a whole one.",
                hint="Make one with: homeroom db backup FILE",
            ) from error
        try:
            text = found.read(info) if info.file_size <= _MANIFEST_BYTES else b""
        except _UNREADABLE as error:
            raise Damaged(f"{file} is damaged: its manifest cannot be read.") from error
        yield Archive(file, found, _manifest(file, text))


def _manifest(file: Path, text: bytes) -> Manifest:
    try:
        version = msgspec.json.decode(text, type=dict[str, object]).get("format")
        if version != FORMAT:
            raise BadRequest(
                f"{file} is a backup in form {version}, and this release reads form {FORMAT}.",
                hint="Restore it with the release that made it, or a later one.",
            )
        manifest = msgspec.json.decode(text, type=Manifest)
    except msgspec.MsgspecError as error:
        raise Damaged(f"{file} is damaged: its manifest cannot be read.") from error
    names = [member.name for member in manifest.files]
    sound = names[:1] == [DATA.get(manifest.kind)] and all(map(_is_key, names[1:]))
    if not sound or not all(map(_TABLE.fullmatch, manifest.tables)):
        raise Damaged(f"{file} is damaged: its manifest names what no backup has.")
    return manifest


def _is_key(name: str) -> bool:
    """Say whether a name leads nowhere but into the folder of keys."""
    path = PurePosixPath(name.removeprefix(KEYS))
    inside = not path.is_absolute() and ".." not in path.parts and path.parts
    return name.startswith(KEYS) and bool(inside) and "\\" not in name
