"""All SQL of keys, sessions and the audit trail."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import BigInteger, Column, Index, String, Table, Text, delete, select, update

from homeroom.access.principal import Principal
from homeroom.access.token import KEY_PREFIX, SIGN_IN_PREFIX, digest, new_token
from homeroom.clock import SECOND
from homeroom.db.id import new_id
from homeroom.db.schema import metadata
from homeroom.db.tx import Tx
from homeroom.errors import NotFound, Unauthenticated

api_key = Table(
    "api_key",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("name", String(128), nullable=False),
    Column("roles", Text, nullable=False),
    Column("hash", String(64), nullable=False, unique=True),
    Column("created_at", BigInteger, nullable=False),
    Column("last_used_at", BigInteger),
    Column("revoked_at", BigInteger),
)
sign_in = Table(
    "sign_in",
    metadata,
    Column("hash", String(64), primary_key=True),
    Column("name", String(128), nullable=False),
    Column("roles", Text, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger, nullable=False),
    Column("used_at", BigInteger),
)
session = Table(
    "session",
    metadata,
    Column("hash", String(64), primary_key=True),
    Column("name", String(128), nullable=False),
    Column("roles", Text, nullable=False),
    Column("key_id", String(36)),
    Column("created_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger, nullable=False, index=True),
)
audit = Table(
    "audit",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("at", BigInteger, nullable=False),
    Column("actor", String(128), nullable=False),
    Column("action", String(64), nullable=False),
    Column("subject", String(256), nullable=False),
    Column("details", Text, nullable=False),
    Index("ix_audit_at_id", "at", "id"),
)

SIGN_IN_LIFETIME = 24 * 3_600 * SECOND


@dataclass(frozen=True, slots=True)
class ApiKey:
    """An API key without its token, which is not stored. Instants are microseconds UTC."""

    id: str
    name: str
    roles: tuple[str, ...]
    created_at: int
    last_used_at: int | None
    """Coarse: written at most every five minutes."""
    revoked_at: int | None


@dataclass(frozen=True, slots=True)
class AuditLine:
    """Who did what to whom, and when (microseconds UTC)."""

    id: str
    at: int
    actor: str
    action: str
    subject: str
    details: Any


def _split(roles: str) -> tuple[str, ...]:
    return tuple(roles.split())


def _joined(roles: Iterable[str]) -> str:
    return " ".join(sorted(set(roles)))


async def create_key(tx: Tx, name: str, roles: Iterable[str]) -> tuple[ApiKey, str]:
    """Make an API key; return it and its token, which can never be shown again."""
    token = new_token(KEY_PREFIX)
    key = ApiKey(new_id(), name, _split(_joined(roles)), tx.now, None, None)
    await tx.execute(
        api_key.insert().values(
            id=key.id, name=name, roles=" ".join(key.roles), hash=digest(token), created_at=tx.now
        )
    )
    return key, token


_KEY = (
    api_key.c.id,
    api_key.c.name,
    api_key.c.roles,
    api_key.c.created_at,
    api_key.c.last_used_at,
    api_key.c.revoked_at,
)


async def list_keys(tx: Tx, limit: int, after: str | None = None) -> list[ApiKey]:
    """Return keys by id, revoked ones too, one more than ``limit`` if there are more."""
    query = select(*_KEY).order_by(api_key.c.id).limit(limit + 1)
    if after is not None:
        query = query.where(api_key.c.id > after)
    return [ApiKey(row[0], row[1], _split(row[2]), *row[3:]) for row in await tx.fetch(query)]


async def revoke_key(tx: Tx, id: str) -> str:
    """Revoke a key and end its sessions; return its name. Raises ``NotFound``. Repeatable."""
    found = await tx.fetch_one(select(api_key.c.name).where(api_key.c.id == id))
    if found is None:
        raise NotFound(f"There is no API key {id!r}.")
    await tx.execute(
        update(api_key)
        .where(api_key.c.id == id, api_key.c.revoked_at.is_(None))
        .values(revoked_at=tx.now)
    )
    await tx.execute(delete(session).where(session.c.key_id == id))
    return str(found[0])


async def find_key(tx: Tx, token: str) -> ApiKey | None:
    """Return the key of a token if it has not been revoked."""
    row = await tx.fetch_one(
        select(*_KEY).where(api_key.c.hash == digest(token), api_key.c.revoked_at.is_(None))
    )
    return None if row is None else ApiKey(row[0], row[1], _split(row[2]), *row[3:])


async def touch_key(tx: Tx, id: str) -> None:
    """Remember that a key was used."""
    await tx.execute(update(api_key).where(api_key.c.id == id).values(last_used_at=tx.now))


async def make_sign_in(
    tx: Tx, name: str, roles: Iterable[str], lifetime: int = SIGN_IN_LIFETIME
) -> str:
    """Return a token that opens one session, within ``lifetime`` microseconds."""
    token = new_token(SIGN_IN_PREFIX)
    await tx.execute(
        sign_in.insert().values(
            hash=digest(token),
            name=name,
            roles=_joined(roles),
            created_at=tx.now,
            expires_at=tx.now + lifetime,
        )
    )
    return token


async def first_sign_in(tx: Tx) -> str | None:
    """Return an admin's sign-in token if nobody could ever sign in before, else None."""
    await tx.lock("first sign-in")  # of several servers that start at once, one makes it
    for table in (api_key.c.id, session.c.hash, sign_in.c.hash):
        if await tx.fetch_one(select(table).limit(1)) is not None:
            return None
    token = await make_sign_in(tx, "first admin", ["admin"])
    await record(tx, "homeroom", "sign_in.made", "first admin")
    return token


async def use_sign_in(tx: Tx, token: str) -> Principal:
    """Take a sign-in token; raise ``Unauthenticated`` if it was used, expired or never made."""
    taken = await tx.execute(
        update(sign_in)
        .where(
            sign_in.c.hash == digest(token),
            sign_in.c.used_at.is_(None),
            sign_in.c.expires_at > tx.now,
        )
        .values(used_at=tx.now)
    )
    if not taken:
        raise Unauthenticated("This sign-in link was used already or is no longer valid.")
    row = await tx.fetch_one(
        select(sign_in.c.name, sign_in.c.roles).where(sign_in.c.hash == digest(token))
    )
    assert row is not None
    return Principal(row[0], frozenset(_split(row[1])), "session")


async def open_session(tx: Tx, principal: Principal, lifetime: int) -> str:
    """Make a session of ``lifetime`` microseconds and return its token, for a cookie."""
    token = new_token("")
    await tx.execute(
        session.insert().values(
            hash=digest(token),
            name=principal.subject,
            roles=_joined(principal.roles),
            key_id=principal.key_id,
            created_at=tx.now,
            expires_at=tx.now + lifetime,
        )
    )
    return token


async def find_session(tx: Tx, token: str) -> Principal | None:
    """Return who a session belongs to while it lasts, and while its API key was not revoked.

    A key that another process has revoked is believed for two seconds, in which it may open one.
    """
    revoked = select(api_key.c.id).where(
        api_key.c.id == session.c.key_id, api_key.c.revoked_at.is_not(None)
    )
    row = await tx.fetch_one(
        select(session.c.name, session.c.roles, session.c.key_id).where(
            session.c.hash == digest(token), session.c.expires_at > tx.now, ~revoked.exists()
        )
    )
    return None if row is None else Principal(row[0], frozenset(_split(row[1])), "session", row[2])


async def close_session(tx: Tx, token: str) -> None:
    """End a session; nothing happens if it has ended."""
    await tx.execute(delete(session).where(session.c.hash == digest(token)))


async def record(
    tx: Tx,
    actor: str,
    action: str,
    subject: str,
    details: Mapping[str, Any] | None = None,
) -> None:
    """Write an audit line in the transaction of what it tells of; no secrets in ``details``."""
    await tx.execute(
        "INSERT INTO audit (id, at, actor, action, subject, details) VALUES (?, ?, ?, ?, ?, ?)",
        (new_id(), tx.now, actor[:128], action, subject[:256], json.dumps(dict(details or {}))),
    )


async def list_audit(
    tx: Tx,
    limit: int,
    *,
    after: tuple[int, str] | None = None,
    actor: str | None = None,
    action: str | None = None,
    subject: str | None = None,
) -> list[AuditLine]:
    """Return audit lines, newest first, one more than ``limit`` if there are more."""
    query = select(audit).order_by(audit.c.at.desc(), audit.c.id.desc()).limit(limit + 1)
    for column, value in ((audit.c.actor, actor), (audit.c.action, action)):
        if value is not None:
            query = query.where(column == value)
    if subject is not None:
        query = query.where(audit.c.subject == subject)
    if after is not None:
        at, line = after
        query = query.where((audit.c.at < at) | ((audit.c.at == at) & (audit.c.id < line)))
    return [
        AuditLine(id_, at, actor_, action_, subject_, json.loads(details))
        for id_, at, actor_, action_, subject_, details in await tx.fetch(query)
    ]


async def prune(tx: Tx, audit_before: int | None = None) -> int:
    """Drop sessions that are over and audit lines older than an instant; return how many.

    Sign-in links stay: they are few, and they say that a first admin was there already.
    """
    gone = await tx.execute(delete(session).where(session.c.expires_at <= tx.now))
    if audit_before is not None:
        gone += await tx.execute(delete(audit).where(audit.c.at < audit_before))
    return gone
