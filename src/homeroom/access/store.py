"""Tables and SQL of API keys, sessions and the audit trail, and their tokens."""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import BigInteger, Column, Index, String, Table, Text, delete, select, update

from homeroom.clock import Clock
from homeroom.db.ids import new_id
from homeroom.db.personal_data import PersonalRows, rows_naming, rows_with_id_in_json
from homeroom.db.tables import metadata
from homeroom.db.tx import Tx
from homeroom.errors import Invalid, NotFound, Unauthenticated
from homeroom.identity import Identity, Role, parse_roles
from homeroom.instant import SECOND

KEY_PREFIX = "hr_"
SIGN_IN_PREFIX = "once_"
PERSON_SESSION = "jwt"
"""The key id of sessions that a JWT has opened: they belong to a person, as the JWT does."""
SCHOOL_SESSION = "oidc"
"""The key id of sessions that the account of a school has opened: they belong to a person too."""
_PERSON_SESSIONS = (PERSON_SESSION, SCHOOL_SESSION)
_TOKEN_PATTERN = re.compile(r"(?:hr|once)_[A-Za-z0-9_-]{43}")


def new_token(prefix: str) -> str:
    """Return a new token of 256 random bits."""
    return prefix + secrets.token_urlsafe(32)


def has_token_format(token: str) -> bool:
    """Return whether a token has Homeroom's format; any other needs no query."""
    return _TOKEN_PATTERN.fullmatch(token) is not None


def hash_token(token: str) -> str:
    """Return the hash to store of a token; SHA-256 is enough for 256 random bits."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


API_KEY = Table(
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
SIGN_IN = Table(
    "sign_in",
    metadata,
    Column("hash", String(64), primary_key=True),
    Column("name", String(128), nullable=False),
    Column("roles", Text, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger, nullable=False),
    Column("used_at", BigInteger),
)
SESSION = Table(
    "session",
    metadata,
    Column("hash", String(64), primary_key=True),
    Column("name", String(128), nullable=False),
    Column("roles", Text, nullable=False),
    Column("key_id", String(36)),
    Column("created_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger, nullable=False, index=True),
)
AUDIT = Table(
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
_STARTED_TOGETHER = 10 * SECOND
"""Processes whose starts are closer belong to one start of a server."""


@dataclass(frozen=True, slots=True)
class ApiKey:
    """An API key without its token. Instants are microseconds UTC."""

    id: str
    name: str
    role_names: str
    """The column ``roles``: names of roles, divided by spaces."""
    created_at: int
    last_used_at: int | None = None
    """Written at most every five minutes."""
    revoked_at: int | None = None

    @property
    def roles(self) -> tuple[str, ...]:
        """Return the names of the key's roles."""
        return tuple(self.role_names.split())


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """An audited action: actor, subject, and instant in microseconds UTC."""

    id: str
    at: int
    actor: str
    action: str
    subject: str
    details: dict[str, Any]


_SELECT_KEY = select(API_KEY, API_KEY.c.roles.label("role_names"))


def check_key_roles(roles: Iterable[str]) -> None:
    """Raise ``Invalid`` for roles that no API key may have."""
    if Role.LEARNER in roles:
        raise Invalid(
            "An API key belongs to no learner, so it cannot have the role learner.",
            hint="Learners send JWTs whose sub is their user id: docs/tokens.md, or"
            " `homeroom tokens mint USER_ID`. The platform's servers use a key with the role"
            " service.",
        )


async def create_key(tx: Tx, name: str, roles: Iterable[str]) -> tuple[ApiKey, str]:
    """Create an API key; return it and its token, which is not stored."""
    token = new_token(KEY_PREFIX)
    key = ApiKey(new_id(), name, _join_roles(roles), tx.now)
    await tx.insert(API_KEY, [key], roles=key.role_names, hash=hash_token(token))
    return key, token


async def list_keys(tx: Tx, limit: int, after: str | None = None) -> list[ApiKey]:
    """Return keys by id, revoked ones too; one more than ``limit`` if there are more."""
    query = _SELECT_KEY.order_by(API_KEY.c.id).limit(limit + 1)
    if after is not None:
        query = query.where(API_KEY.c.id > after)
    return await tx.fetch_into(ApiKey, query)


async def revoke_key(tx: Tx, id: str) -> str:
    """Revoke a key and its sessions; return its name. Raises ``NotFound``."""
    key = await tx.fetch_one_into(ApiKey, _SELECT_KEY.where(API_KEY.c.id == id))
    if key is None:
        raise NotFound(f"There is no API key {id!r}.")
    await tx.execute(
        update(API_KEY)
        .where(API_KEY.c.id == id, API_KEY.c.revoked_at.is_(None))
        .values(revoked_at=tx.now)
    )
    await tx.execute(delete(SESSION).where(SESSION.c.key_id == id))
    return key.name


async def find_key(tx: Tx, token: str) -> ApiKey | None:
    """Return the key of a token if it has not been revoked."""
    is_valid = (API_KEY.c.hash == hash_token(token)) & API_KEY.c.revoked_at.is_(None)
    return await tx.fetch_one_into(ApiKey, _SELECT_KEY.where(is_valid))


async def set_key_last_used(tx: Tx, id: str) -> None:
    """Record the use of a key."""
    await tx.execute(update(API_KEY).where(API_KEY.c.id == id).values(last_used_at=tx.now))


async def create_sign_in(
    tx: Tx, name: str, roles: Iterable[str], lifetime: int = SIGN_IN_LIFETIME
) -> str:
    """Return a token that opens one session, within ``lifetime`` microseconds."""
    token = new_token(SIGN_IN_PREFIX)
    await tx.execute(
        SIGN_IN.insert().values(
            hash=hash_token(token),
            name=name,
            roles=_join_roles(roles),
            created_at=tx.now,
            expires_at=tx.now + lifetime,
        )
    )
    return token


async def create_first_sign_in(tx: Tx) -> str | None:
    """Return an admin's sign-in token; None after a sign-in or with an API key.

    Every start makes one until then, so that a link that was lost is no dead end; of processes that
    start together, one makes it.
    """
    await tx.lock("first sign-in")
    just_made = SIGN_IN.c.created_at > tx.now - _STARTED_TOGETHER
    for known in (
        select(API_KEY.c.id),
        select(SESSION.c.hash),
        select(SIGN_IN.c.hash).where(SIGN_IN.c.used_at.is_not(None) | just_made),
    ):
        if await tx.fetch_one(known.limit(1)) is not None:
            return None
    token = await create_sign_in(tx, "first admin", [Role.ADMIN])
    await record_audit(tx, "homeroom", "sign_in.made", "first admin")
    return token


async def redeem_sign_in(tx: Tx, token: str) -> Identity:
    """Redeem a sign-in token; raise ``Unauthenticated`` unless it is valid."""
    is_token = SIGN_IN.c.hash == hash_token(token)
    redeemed = await tx.execute(
        update(SIGN_IN)
        .where(is_token, SIGN_IN.c.used_at.is_(None), SIGN_IN.c.expires_at > tx.now)
        .values(used_at=tx.now)
    )
    if not redeemed:
        raise Unauthenticated("This sign-in link was used already or is no longer valid.")
    [(name, roles)] = await tx.fetch(select(SIGN_IN.c.name, SIGN_IN.c.roles).where(is_token))
    return Identity(name, parse_roles(roles.split()), "session")


async def open_session(tx: Tx, identity: Identity, lifetime: int) -> str:
    """Create a session of ``lifetime`` microseconds; return the cookie's token.

    That of a JWT ends with the JWT: a person whose role was taken away gets no new one.
    """
    token = new_token("")
    if identity.expires_at is not None:  # counted by the real clock, as its issuer does
        lifetime = min(lifetime, int(identity.expires_at * SECOND) - Clock().now())
    await tx.execute(
        SESSION.insert().values(
            hash=hash_token(token),
            name=identity.subject,
            roles=_join_roles(identity.roles),
            key_id=identity.key_id or (PERSON_SESSION if identity.via == "jwt" else None),
            created_at=tx.now,
            expires_at=tx.now + lifetime,
        )
    )
    return token


async def find_session(tx: Tx, token: str) -> Identity | None:
    """Return the identity of a valid session whose API key is not revoked.

    A key that another process has revoked is accepted for two seconds and may open a session then.
    """
    revoked = select(API_KEY.c.id).where(
        API_KEY.c.id == SESSION.c.key_id, API_KEY.c.revoked_at.is_not(None)
    )
    row = await tx.fetch_one(
        select(SESSION.c.name, SESSION.c.roles, SESSION.c.key_id).where(
            SESSION.c.hash == hash_token(token), SESSION.c.expires_at > tx.now, ~revoked.exists()
        )
    )
    if row is None:
        return None
    name, roles, key_id = row
    via: Literal["jwt", "session"] = "jwt" if key_id in _PERSON_SESSIONS else "session"
    return Identity(name, parse_roles(roles.split()), via, key_id)


async def close_session(tx: Tx, token: str) -> None:
    """End a session; one that has ended stays so."""
    await tx.execute(delete(SESSION).where(SESSION.c.hash == hash_token(token)))


async def record_audit(
    tx: Tx,
    actor: str,
    action: str,
    subject: str,
    details: Mapping[str, Any] | None = None,
) -> None:
    """Write an audit entry in the action's transaction; ``details`` hold no secret."""
    entry = AuditEntry(new_id(), tx.now, actor[:128], action, subject[:256], dict(details or {}))
    await tx.insert(AUDIT, [entry])


async def list_audit(
    tx: Tx,
    limit: int,
    *,
    after: tuple[int, str] | None = None,
    actor: str | None = None,
    action: str | None = None,
    subject: str | None = None,
) -> list[AuditEntry]:
    """Return audit entries, newest first; one more than ``limit`` if there are more."""
    query = select(AUDIT).order_by(AUDIT.c.at.desc(), AUDIT.c.id.desc()).limit(limit + 1)
    filters = ((AUDIT.c.actor, actor), (AUDIT.c.action, action), (AUDIT.c.subject, subject))
    for column, value in filters:
        if value is not None:
            query = query.where(column == value)
    if after is not None:
        at, id = after
        query = query.where((AUDIT.c.at < at) | ((AUDIT.c.at == at) & (AUDIT.c.id < id)))
    return await tx.fetch_into(AuditEntry, query)


async def prune(tx: Tx, audit_before: int | None = None) -> int:
    """Delete expired sessions and old audit entries; return how many.

    Sign-in links stay: they are few, and ``create_first_sign_in`` counts them.
    """
    deleted = await tx.execute(delete(SESSION).where(SESSION.c.expires_at <= tx.now))
    if audit_before is not None:
        deleted += await tx.execute(delete(AUDIT).where(AUDIT.c.at < audit_before))
    return deleted


def _join_roles(roles: Iterable[str]) -> str:
    return " ".join(sorted(set(roles)))


_ACTIONS_ON_PEOPLE = (
    "person.exported",
    "person.suspended",
    "person.resumed",
    "enrolment.ended",
    "mail.unsubscribed",
    "session.opened",
)

PERSONAL = (
    rows_naming(AUDIT.c.actor),
    PersonalRows(  # the names of API keys, which open sessions too, may equal a user id
        SESSION,
        lambda user_id: (SESSION.c.name == user_id) & SESSION.c.key_id.in_(_PERSON_SESSIONS),
        visible_columns=frozenset({"name", "roles", "created_at", "expires_at"}),
    ),
    PersonalRows(
        AUDIT,  # the column also names courses, queues and keys, whose names may equal a user id
        lambda user_id: (AUDIT.c.subject == user_id) & AUDIT.c.action.in_(_ACTIONS_ON_PEOPLE),
        lambda user_id, pseudonym: {"subject": pseudonym},
        frozenset({"id", "at", "action", "subject"}),
    ),
    rows_with_id_in_json(AUDIT.c.details),
)
