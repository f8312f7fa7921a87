"""One-time tickets for event streams, as EventSource sends no headers."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import BigInteger, Column, Index, String, Table, Text, delete, func, select

from homeroom.access.store import API_KEY, SIGN_IN_PREFIX, has_token_format, hash_token, new_token
from homeroom.clock import Clock
from homeroom.db.personal_data import rows_naming
from homeroom.db.tables import metadata
from homeroom.db.tx import Tx
from homeroom.errors import TooBusy, Unauthenticated
from homeroom.identity import Identity, parse_roles
from homeroom.instant import SECOND

TICKET_LIFETIME_SECONDS = 60
MAX_TICKETS = 20
"""Unused tickets of one caller: as many as it may have streams."""

STREAM_TICKET = Table(
    "stream_ticket",
    metadata,
    Column("hash", String(64), primary_key=True),
    Column("subject", String(128), nullable=False),
    Column("roles", Text, nullable=False),
    Column("via", String(8), nullable=False),
    Column("key_id", String(36)),
    Column("expires_at", BigInteger, nullable=False, index=True),
    Index("ix_stream_ticket_subject", "subject"),
)


@dataclass(frozen=True, slots=True)
class StreamTicket:
    """A new ticket and its end in microseconds UTC; only its hash is stored."""

    token: str
    expires_at: int


async def create_stream_ticket(tx: Tx, identity: Identity) -> StreamTicket:
    """Create a ticket with the rights of a caller; it works once, for a minute.

    Raises ``TooBusy`` if the caller has too many unused ones.
    """
    is_own = STREAM_TICKET.c.subject == identity.subject
    await tx.execute(delete(STREAM_TICKET).where(is_own, STREAM_TICKET.c.expires_at <= tx.now))
    [(count,)] = await tx.fetch(select(func.count()).select_from(STREAM_TICKET).where(is_own))
    if count >= MAX_TICKETS:
        raise TooBusy(
            f"You have {MAX_TICKETS} unused tickets; each is valid for a minute.",
            retry_after_seconds=TICKET_LIFETIME_SECONDS,
        )
    lifetime = TICKET_LIFETIME_SECONDS * SECOND
    if identity.expires_at is not None:  # counted by the real clock, as its issuer does
        lifetime = min(lifetime, int(identity.expires_at * SECOND) - Clock().now())
    expires_at = tx.now + lifetime
    token = new_token(SIGN_IN_PREFIX)
    await tx.execute(
        STREAM_TICKET.insert().values(
            hash=hash_token(token),
            subject=identity.subject,
            roles=" ".join(sorted(identity.roles)),
            via=identity.via,
            key_id=identity.key_id,
            expires_at=expires_at,
        )
    )
    return StreamTicket(token, expires_at)


async def redeem_stream_ticket(tx: Tx, token: str) -> Identity:
    """Use up a ticket and return the identity of the caller who asked for it.

    Raises ``Unauthenticated`` for a ticket that is unknown, used or over, and if the API key behind
    it was revoked.
    """
    is_ticket = STREAM_TICKET.c.hash == hash_token(token)
    row = None
    if has_token_format(token):
        columns = ("subject", "roles", "via", "key_id", "expires_at")
        row = await tx.fetch_one(
            select(*(STREAM_TICKET.c[name] for name in columns)).where(is_ticket)
        )
    # Of two requests with one ticket, one deletes the row.
    if row is None or not await tx.execute(delete(STREAM_TICKET).where(is_ticket)):
        raise _invalid_ticket()
    subject, roles, via, key_id, expires_at = row
    revoked = select(API_KEY.c.id).where(API_KEY.c.id == key_id, API_KEY.c.revoked_at.is_not(None))
    if expires_at <= tx.now or (key_id is not None and await tx.fetch_one(revoked) is not None):
        raise _invalid_ticket()
    return Identity(subject, parse_roles(roles.split()), via, key_id)


async def prune_stream_tickets(tx: Tx) -> int:
    """Delete expired tickets; return how many."""
    return await tx.execute(delete(STREAM_TICKET).where(STREAM_TICKET.c.expires_at <= tx.now))


def _invalid_ticket() -> Unauthenticated:
    return Unauthenticated(
        "The ticket is unknown, used or older than a minute.",
        hint="Ask for a new one with POST /api/v1/events/ticket, before every connection.",
    )


PERSONAL = (rows_naming(STREAM_TICKET.c.subject),)
