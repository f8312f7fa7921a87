"""The seal of a database that must not run, because another one has its data.

``homeroom db copy`` seals its target before the target's rows are committed, then its source, and
then unseals the target, so that at no moment both may run (decision 0026).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from sqlalchemy import BigInteger, Column, Integer, Table, Text

from homeroom.db.tables import metadata
from homeroom.db.tx import Tx
from homeroom.errors import ConfigurationError
from homeroom.instant import to_rfc3339

SEAL = Table(
    "installation_seal",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),  # always 1
    Column("role", Text, nullable=False),
    Column("copy_id", Text, nullable=False),
    Column("other", Text, nullable=False),
    Column("sealed_at", BigInteger, nullable=False),
)
SEAL_COLUMNS = "role, copy_id, other, sealed_at"


@dataclass(frozen=True, slots=True)
class Seal:
    """The reason why a database must not run."""

    role: Literal["source", "target"]
    """``source`` was copied; ``target`` is a copy whose source was not known to be sealed."""
    copy_id: str
    """The id of the copy, the same in both databases."""
    other: str
    """The other database of the copy, without its password."""
    sealed_at: int


class InstallationSealed(ConfigurationError):
    """This database must not run, because another one has its data."""

    code = "installation_sealed"


async def find_seal(tx: Tx) -> Seal | None:
    """Return the seal of a database; None if it may run."""
    found = await tx.fetch_into(Seal, f"SELECT {SEAL_COLUMNS} FROM installation_seal")
    return found[0] if found else None


async def remove_seal(tx: Tx) -> Seal | None:
    """Remove the seal of a database and return it; None if there was none."""
    seal = await find_seal(tx)
    await tx.execute("DELETE FROM installation_seal")
    return seal


def sealed_error(seal: Seal, database_name: str) -> InstallationSealed:
    """Return the error that says which database to run, and how to lift the seal."""
    at = to_rfc3339(seal.sealed_at)
    details = {"role": seal.role, "other": seal.other, "copyId": seal.copy_id}
    if seal.role == "source":
        return InstallationSealed(
            f"{database_name} is sealed: it was copied to {seal.other} at {at}. If both ran, every"
            " job and message would go out twice.",
            hint=f"Set HOMEROOM_DATABASE_URL to {seal.other}. If that one refuses to start too, run"
            " the same `homeroom db copy` again: it finishes the copy. To discard the copy and use"
            " this database again: homeroom db unseal",
            details=details,
        )
    return InstallationSealed(
        f"{database_name} is sealed: it is a copy of {seal.other}, made at {at} by a"
        " `homeroom db copy` that was interrupted before it ended.",
        hint="Run the same `homeroom db copy` again: it finishes the copy. Without it, start"
        f" {seal.other}; only if that one says that it is sealed, or is lost:"
        " homeroom db unseal",
        details=details,
    )
