"""All SQL of credentials. Instants are microseconds UTC, scores units of 1e-4."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from sqlalchemy import BigInteger, Column, Index, Integer, Table, Text, UniqueConstraint, select

from homeroom.db.schema import metadata
from homeroom.db.tx import Row, Tx

State = Literal["issuing", "issued", "revoked", "superseded"]

CREDENTIAL = Table(
    "credential",
    metadata,
    Column("id", Text, primary_key=True),
    Column("completion_id", Text, nullable=False),
    Column("user_id", Text, nullable=False),
    Column("course_id", Text, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("issuer", Text, nullable=False),
    Column("template_id", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("external_id", Text),
    Column("url", Text),
    Column("score", Integer),
    Column("issued_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger),
    Column("created_at", BigInteger, nullable=False),
    Column("issuer_state", Text),
    Column("issuer_state_at", BigInteger),
    Column("revoked_at", BigInteger),
    Column("revocation_reason", Text),
    Column("superseded_by", Text),
    UniqueConstraint("completion_id", "issuer"),
    UniqueConstraint("issuer", "external_id"),
    Index(None, "user_id", "created_at", "id"),
    Index(None, "created_at", "id"),
)


@dataclass(frozen=True, slots=True)
class Credential:
    """A credential. Its id is random and public; it was stored before it was asked for."""

    id: str
    completion_id: str
    user_id: str
    course_id: str
    attempt: int
    issuer: str
    template_id: str
    state: State
    external_id: str | None
    url: str | None
    score: int | None
    issued_at: int
    """The completion's own date."""
    expires_at: int | None
    created_at: int
    issuer_state: str | None
    """What the issuer says of it: ``pending``, ``accepted``, ``rejected`` or ``revoked``."""
    issuer_state_at: int | None
    revoked_at: int | None
    revocation_reason: str | None
    superseded_by: str | None


def _credential(row: Row) -> Credential:
    return Credential(*row)


async def add(tx: Tx, new: Credential) -> bool:
    """Insert a credential unless its completion has one of this issuer; say whether it is new."""
    changed = await tx.execute(
        "INSERT INTO credential (id, completion_id, user_id, course_id, attempt, issuer,"
        " template_id, state, score, issued_at, expires_at, created_at)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
        " ON CONFLICT (completion_id, issuer) DO NOTHING",
        (
            new.id,
            new.completion_id,
            new.user_id,
            new.course_id,
            new.attempt,
            new.issuer,
            new.template_id,
            new.state,
            new.score,
            new.issued_at,
            new.expires_at,
            new.created_at,
        ),
    )
    return changed == 1


async def get(tx: Tx, id: str) -> Credential | None:
    """Return a credential by its public id."""
    row = await tx.fetch_one(select(CREDENTIAL).where(CREDENTIAL.c.id == id))
    return None if row is None else _credential(row)


async def of_completion(tx: Tx, completion_id: str, issuer: str) -> Credential | None:
    """Return the credential that a completion has of an issuer."""
    row = await tx.fetch_one(
        select(CREDENTIAL).where(
            CREDENTIAL.c.completion_id == completion_id, CREDENTIAL.c.issuer == issuer
        )
    )
    return None if row is None else _credential(row)


async def of_completions(tx: Tx, completion_ids: Sequence[str]) -> dict[str, Credential]:
    """Return the credentials of some completions that were issued, by completion."""
    found: dict[str, Credential] = {}
    for start in range(0, len(completion_ids), 500):
        part = completion_ids[start : start + 500]
        rows = await tx.fetch(
            select(CREDENTIAL)
            .where(CREDENTIAL.c.completion_id.in_(part), CREDENTIAL.c.state != "issuing")
            .order_by(CREDENTIAL.c.created_at)
        )
        found.update((row[1], _credential(row)) for row in rows)
    return found


async def by_external_id(tx: Tx, issuer: str, external_id: str) -> Credential | None:
    """Return the credential that an issuer knows by an id of its own."""
    row = await tx.fetch_one(
        select(CREDENTIAL).where(
            CREDENTIAL.c.issuer == issuer, CREDENTIAL.c.external_id == external_id
        )
    )
    return None if row is None else _credential(row)


async def taken(tx: Tx, issuer: str, external_ids: Sequence[str]) -> set[str]:
    """Return those ids of the issuer's that belong to a credential already."""
    if not external_ids:
        return set()
    rows = await tx.fetch(
        select(CREDENTIAL.c.external_id).where(
            CREDENTIAL.c.issuer == issuer, CREDENTIAL.c.external_id.in_(external_ids)
        )
    )
    return {row[0] for row in rows}


async def set_score(tx: Tx, id: str, score: int | None) -> None:
    """Note the score that the credential is issued with."""
    await tx.execute("UPDATE credential SET score = ? WHERE id = ?", (score, id))


async def set_issued(tx: Tx, id: str, external_id: str, url: str | None, issuer_state: str) -> None:
    """Say that the issuer has issued it."""
    await tx.execute(
        "UPDATE credential SET state = 'issued', external_id = ?, url = ?, issuer_state = ?"
        " WHERE id = ? AND state = 'issuing'",
        (external_id, url, issuer_state, id),
    )


async def supersede(tx: Tx, by: Credential) -> None:
    """Mark the credentials of earlier attempts, and this one if a later attempt has one (B12)."""
    await tx.lock("credential", [by.user_id])  # two attempts' may be issued at the same moment
    await tx.execute(
        "UPDATE credential SET state = 'superseded', superseded_by = ?"
        " WHERE user_id = ? AND course_id = ? AND issuer = ? AND attempt < ? AND state = 'issued'",
        (by.id, by.user_id, by.course_id, by.issuer, by.attempt),
    )
    later = await tx.fetch_one(
        "SELECT id FROM credential WHERE user_id = ? AND course_id = ? AND issuer = ?"
        " AND attempt > ? AND state IN ('issued', 'superseded') ORDER BY attempt LIMIT 1",
        (by.user_id, by.course_id, by.issuer, by.attempt),
    )
    if later is not None:
        await tx.execute(
            "UPDATE credential SET state = 'superseded', superseded_by = ?"
            " WHERE id = ? AND state = 'issued'",
            (later[0], by.id),
        )


async def set_revoked(tx: Tx, id: str, at: int, reason: str | None) -> bool:
    """Revoke a credential; say whether it was not revoked before."""
    changed = await tx.execute(
        "UPDATE credential SET state = 'revoked', revoked_at = ?, revocation_reason = ?,"
        " issuer_state = 'revoked', issuer_state_at = ?"
        " WHERE id = ? AND state IN ('issued', 'superseded')",
        (at, reason, at, id),
    )
    return changed == 1


async def set_issuer_state(tx: Tx, id: str, issuer_state: str, at: int) -> None:
    """Note what the issuer said of it, unless it has said something later already."""
    await tx.execute(
        "UPDATE credential SET issuer_state = ?, issuer_state_at = ?"
        " WHERE id = ? AND state <> 'revoked'"
        " AND (issuer_state_at IS NULL OR issuer_state_at <= ?)",
        (issuer_state, at, id, at),
    )


async def newest(
    tx: Tx, user_id: str | None, before: tuple[int, str] | None, count: int
) -> list[Credential]:
    """Return issued credentials by (created_at, id), newest first, before such a pair."""
    at, id = CREDENTIAL.c.created_at, CREDENTIAL.c.id
    statement = select(CREDENTIAL).where(CREDENTIAL.c.state != "issuing")
    if user_id is not None:
        statement = statement.where(CREDENTIAL.c.user_id == user_id)
    if before is not None:
        statement = statement.where(at <= before[0]).where(
            (at < before[0]) | ((at == before[0]) & (id < before[1]))
        )
    rows = await tx.fetch(statement.order_by(at.desc(), id.desc()).limit(count))
    return [_credential(row) for row in rows]
