"""All SQL of signed credentials: keys, status numbers, documents.

Statements are texts: a construct of SQLAlchemy takes 0.5 ms to compile, in each of many jobs.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import BigInteger, Column, Integer, Table, Text

from homeroom.credentials.open_badges.badge_document import STATUS_LIST_BITS
from homeroom.db.personal_data import rows_owned_by
from homeroom.db.tables import metadata
from homeroom.db.tx import Tx

CREDENTIAL_KEY = Table(
    "credential_key",
    metadata,
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("id", Text, nullable=False, unique=True),
    Column("public_key", Text, nullable=False),
    Column("private_key", Text),
    Column("created_at", BigInteger, nullable=False),
)
CREDENTIAL_STATUS = Table(
    "credential_status",
    metadata,
    Column("number", BigInteger, primary_key=True, autoincrement=False),
    Column("credential_id", Text, nullable=False, unique=True),
    Column("issued_at", BigInteger, nullable=False),
    Column("revoked_at", BigInteger, index=True),
)
"""It names no person: an erased learner's credential keeps its bit, and its page says so."""
OPEN_BADGE = Table(
    "open_badge",
    metadata,
    Column("credential_id", Text, primary_key=True),
    Column("user_id", Text, nullable=False, index=True),
    Column("holder_name", Text),
    Column("document", Text, nullable=False),
    Column("jws", Text, nullable=False),
    Column("key_id", Text, nullable=False),
    Column("signed_at", BigInteger, nullable=False),
    Column("shows_name", Integer, nullable=False),
    Column("is_listed", Integer, nullable=False),
)
PERSONAL = (rows_owned_by(OPEN_BADGE.c.user_id),)


@dataclass(frozen=True, slots=True)
class StoredKey:
    """A key pair in hexadecimal; None: the private key is in a file, or was retired."""

    number: int
    id: str
    public_key: str
    private_key: str | None


@dataclass(frozen=True, slots=True)
class CredentialStatus:
    """The status number of a credential, and whether it is revoked."""

    number: int
    credential_id: str
    issued_at: int
    revoked_at: int | None


@dataclass(frozen=True, slots=True)
class OpenBadge:
    """A signed credential, as it was signed, and what its holder allows."""

    credential_id: str
    user_id: str
    holder_name: str | None
    document: str
    """JSON with the Data Integrity proof."""
    jws: str
    key_id: str
    signed_at: int
    shows_name: bool
    is_listed: bool
    """Search engines may list the page."""


@dataclass(frozen=True, slots=True)
class StatusListState:
    """The number of set bits of a status list, and its last change."""

    revoked: int
    changed_at: int


async def list_keys(tx: Tx) -> list[StoredKey]:
    """Return all keys, newest first."""
    return await tx.fetch_into(StoredKey, "SELECT * FROM credential_key ORDER BY number DESC")


async def add_key(tx: Tx, key: StoredKey) -> bool:
    """Insert a key unless its number or id exists; return whether it is new."""
    return await tx.insert(CREDENTIAL_KEY, [key], on_conflict="ignore", created_at=tx.now) == 1


async def retire_keys(tx: Tx, before: int) -> None:
    """Delete the private keys below a number; the public ones stay published."""
    await tx.execute("UPDATE credential_key SET private_key = NULL WHERE number < ?", (before,))


async def get_or_add_status(tx: Tx, credential_id: str) -> CredentialStatus:
    """Return the status of a credential; give it the next number if it has none."""
    found = await get_status(tx, credential_id)
    if found is not None:
        return found
    await tx.lock("credential_status")
    [(last,)] = await tx.fetch("SELECT max(number) FROM credential_status")
    status = CredentialStatus((last or 0) + 1, credential_id, tx.now, None)
    await tx.insert(CREDENTIAL_STATUS, [status])
    return status


async def get_status(tx: Tx, credential_id: str) -> CredentialStatus | None:
    """Return the status of a credential; it outlives the erasure of its holder."""
    return await tx.fetch_one_into(
        CredentialStatus,
        "SELECT * FROM credential_status WHERE credential_id = ?",
        (credential_id,),
    )


async def revoke_status(tx: Tx, credential_id: str, at: int) -> None:
    """Set the bit of a credential; a revoked one keeps its time."""
    await tx.execute(
        "UPDATE credential_status SET revoked_at = ? WHERE credential_id = ?"
        " AND revoked_at IS NULL",
        (at, credential_id),
    )


async def get_list_state(tx: Tx, list_number: int) -> StatusListState | None:
    """Return the state of a status list; None where no credential is on it."""
    first, last = _numbers_of(list_number)
    begun = await tx.fetch_one(
        "SELECT issued_at FROM credential_status WHERE number BETWEEN ? AND ?"
        " ORDER BY number LIMIT 1",
        (first, last),
    )
    if begun is None:
        return None
    [(revoked, latest)] = await tx.fetch(
        "SELECT count(*), max(revoked_at) FROM credential_status"
        " WHERE revoked_at IS NOT NULL AND number BETWEEN ? AND ?",
        (first, last),
    )
    return StatusListState(revoked, max(begun[0], latest or 0))


async def list_revoked_numbers(tx: Tx, list_number: int) -> list[int]:
    """Return the numbers of a status list whose bits are set."""
    rows = await tx.fetch(
        "SELECT number FROM credential_status"
        " WHERE revoked_at IS NOT NULL AND number BETWEEN ? AND ? ORDER BY number",
        _numbers_of(list_number),
    )
    return [number for (number,) in rows]


def _numbers_of(list_number: int) -> tuple[int, int]:
    last = list_number * STATUS_LIST_BITS
    return last - STATUS_LIST_BITS + 1, last


async def add_badge(tx: Tx, badge: OpenBadge) -> None:
    """Insert a signed credential; one that is stored already stays as it is."""
    await tx.insert(OPEN_BADGE, [badge], on_conflict="ignore")


async def get_badge(tx: Tx, credential_id: str) -> OpenBadge | None:
    """Return a signed credential."""
    return await tx.fetch_one_into(
        OpenBadge, "SELECT * FROM open_badge WHERE credential_id = ?", (credential_id,)
    )


async def set_sharing(tx: Tx, credential_id: str, *, shows_name: bool, is_listed: bool) -> None:
    """Set what the public page of a credential may show."""
    await tx.execute(
        "UPDATE open_badge SET shows_name = ?, is_listed = ? WHERE credential_id = ?",
        (int(shows_name), int(is_listed), credential_id),
    )
