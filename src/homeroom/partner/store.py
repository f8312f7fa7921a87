"""All SQL of partners' breakers. Instants are microseconds UTC."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Integer, Table, Text

from homeroom.db.tables import metadata
from homeroom.db.tx import Tx
from homeroom.partner.breaker import LATE_PROBES, Breaker

PARTNER = Table(
    "partner",
    metadata,
    Column("name", Text, primary_key=True),
    Column("state", Text, nullable=False),  # closed, away, refused
    Column("failures", Integer, nullable=False),  # in a row
    Column("opened_at", BigInteger),
    Column("probe_at", BigInteger),
    Column("probes", Integer, nullable=False),
    Column("closed_at", BigInteger, nullable=False),
    Column("released_at", BigInteger, nullable=False),
    Column("last_error", Text),  # redacted
    Column("last_status", Integer),
    Column("last_success_at", BigInteger),  # written once a minute at most
    Column("key_digest", Text),  # of the key with which that call was made
    Column("key_since", BigInteger),  # the first success with that key
)


async def get(tx: Tx, name: str) -> Breaker:
    """Return a partner's breaker; one that never failed has no row and is closed."""
    found = await tx.fetch_one_into(Breaker, "SELECT * FROM partner WHERE name = ?", (name,))
    return found or Breaker(name)


async def get_for_update(tx: Tx, name: str) -> Breaker:
    """Return a partner's breaker, and lock its row in this transaction."""
    await tx.insert(PARTNER, [Breaker(name)], on_conflict="ignore")
    found = await tx.fetch_one_into(
        Breaker, f"SELECT * FROM partner WHERE name = ?{tx.row_lock}", (name,)
    )
    assert found is not None  # it was inserted
    return found


async def list_all(tx: Tx) -> list[Breaker]:
    """Return the breakers of all partners that have failed at some time."""
    return await tx.fetch_into(Breaker, "SELECT * FROM partner ORDER BY name")


async def record_success(tx: Tx, name: str, key_digest: str | None) -> None:
    """Record that a call has succeeded now, with a key whose first success is kept."""
    await tx.insert(PARTNER, [Breaker(name)], on_conflict="ignore")
    await tx.execute(
        "UPDATE partner SET last_success_at = ?,"
        " key_since = CASE WHEN key_digest = ? THEN key_since ELSE ? END, key_digest = ?"
        " WHERE name = ?",
        (tx.now, key_digest, tx.now, key_digest, name),
    )


async def list_last_successes(tx: Tx) -> dict[str, int]:
    """Return the instants of the last successful calls, by partner."""
    rows = await tx.fetch(
        "SELECT name, last_success_at FROM partner WHERE last_success_at IS NOT NULL"
    )
    return dict(rows)


async def list_keys(tx: Tx) -> dict[str, tuple[str, int]]:
    """Return the digest of each partner's last key and its first success, by partner."""
    rows = await tx.fetch(
        "SELECT name, key_digest, key_since FROM partner WHERE key_digest IS NOT NULL"
    )
    return {name: (digest, since) for name, digest, since in rows}


async def save(tx: Tx, breaker: Breaker) -> None:
    """Save a breaker that this transaction has locked."""
    await tx.insert(PARTNER, [breaker], on_conflict="update")


async def return_probe(tx: Tx, name: str) -> None:
    """Let the next call probe, after one that proved nothing."""
    await tx.execute(
        "UPDATE partner SET probe_at = ?, probes = probes - 1 WHERE name = ? AND state <> 'closed'",
        (tx.now, name),
    )


async def start_probe(tx: Tx, name: str, next_probe_at: int) -> bool:
    """Take the probe that is due; False: another call was faster, or it is closed."""
    changed = await tx.execute(
        "UPDATE partner SET probe_at = ?, probes = probes + 1"
        " WHERE name = ? AND state <> 'closed' AND NOT (probe_at > ? AND probe_at <= ?)",
        (next_probe_at, name, tx.now, tx.now + LATE_PROBES),
    )
    return changed == 1
