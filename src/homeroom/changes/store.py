"""Tables of the feed of changes, and all SQL on them.

On PostgreSQL transactions commit in another order than they begin. A change therefore holds the
number of its transaction, and readers stop before the oldest transaction that still writes
(decision 0024). SQLite has one writer, so that the order of the numbers is that of the commits.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from sqlalchemy import (
    BigInteger,
    Column,
    Index,
    Integer,
    Select,
    Table,
    Text,
    select,
    text,
    tuple_,
)

from homeroom.changes.position import Position
from homeroom.db.personal_data import rows_owned_by
from homeroom.db.snapshot import fetch_snapshot
from homeroom.db.tables import SEQUENCE_TYPE, metadata
from homeroom.db.tx import Tx

CHANGE = Table(
    "change",
    metadata,
    Column("seq", SEQUENCE_TYPE, primary_key=True, autoincrement=True),
    # The default of PostgreSQL is the number of the inserting transaction (migration 0039).
    Column("xid", BigInteger, nullable=False, server_default=text("0")),
    Column("kind", Text, nullable=False),
    Column("record_id", Text, nullable=False),
    Column("user_id", Text, nullable=False),
    Column("at", BigInteger, nullable=False),
    Index(None, "xid", "seq"),
    Index(None, "user_id"),
    sqlite_autoincrement=True,
)
CHANGE_FEED = Table(
    "change_feed",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("epoch", Text, nullable=False),
    Column("place", Text, nullable=False),
    Column("base_seq", BigInteger, nullable=False),
    Column("pruned_xid", BigInteger, nullable=False),
    Column("pruned_seq", BigInteger, nullable=False),
)
PERSONAL = (rows_owned_by(CHANGE.c.user_id),)

END_EPOCH = (CHANGE_FEED.name, "UPDATE change_feed SET place = ''")
"""Table and statement with which a restore ends the epoch of the data that it brings."""
SCANNED_ROWS = 10_000
"""Most changes that one page reads in search of some kinds."""
_POSTGRES_PLACE = (
    "SELECT CAST((SELECT system_identifier FROM pg_control_system()) AS text),"
    " CAST((SELECT oid FROM pg_database WHERE datname = current_database()) AS text),"
    # The timeline: it changes when a standby is promoted and when a server recovers to a time.
    " substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8)"
)


@dataclass(frozen=True, slots=True)
class NewChange:
    """A record that this transaction changes."""

    kind: str
    record_id: str
    user_id: str
    at: int


@dataclass(frozen=True, slots=True)
class Change:
    """A stored change; the person is not needed to read it."""

    xid: int
    seq: int
    kind: str
    record_id: str
    at: int

    @property
    def position(self) -> Position:
        """Return its place in the feed."""
        return Position(self.xid, self.seq)


@dataclass(frozen=True, slots=True)
class FeedState:
    """The epoch of the feed and what was pruned of it."""

    epoch: str
    """Random; another one begins when the data has moved."""
    place: str
    """The database in which the epoch began."""
    base_seq: int
    """The last ``seq`` of earlier epochs."""
    pruned_xid: int
    pruned_seq: int

    @property
    def pruned(self) -> Position:
        """Return the position of the last change that was pruned."""
        return Position(self.pruned_xid, self.pruned_seq)


@dataclass(frozen=True, slots=True)
class Horizon:
    """The end of what a snapshot shows completely."""

    settled_before: int
    """Transactions with a lower number have ended, and all that they committed is visible."""
    end: Position
    """All later changes come after this position, and all earlier ones are visible."""
    last_xid: int
    """The next transaction's number when the snapshot was taken."""


def add(tx: Tx, changes: Collection[NewChange]) -> None:
    """Insert changes with the commit of this transaction, each once."""
    tx.insert_last(CHANGE, changes)


async def get_state(tx: Tx) -> FeedState | None:
    """Return the state of the feed; None before it was first read."""
    return await tx.fetch_one_into(FeedState, select(CHANGE_FEED))


async def fetch_place(tx: Tx) -> str:
    """Return what names the database that holds the data: another one after a move.

    A SQLite file has no name of its own; ``db restore`` clears the stored one.
    """
    if tx.dialect == "sqlite":
        return "sqlite"
    [parts] = await tx.fetch(_POSTGRES_PLACE)
    return ".".join(parts)


async def fetch_horizon(tx: Tx) -> Horizon:
    """Return the horizon of the snapshot of this transaction."""
    if tx.dialect == "sqlite":
        rows = await tx.fetch("SELECT seq FROM sqlite_sequence WHERE name = 'change'")
        last = int(rows[0][0]) if rows else 0
        return Horizon(1, Position(0, last), 0)
    snapshot = await fetch_snapshot(tx)
    return Horizon(snapshot.xmin, Position(snapshot.xmin, 0), snapshot.xmax)


async def begin_epoch(tx: Tx, epoch: str, place: str) -> None:
    """Begin an epoch after the last change; changes of earlier ones are read no more.

    The lock waits for the transactions that have inserted changes, so that the last ``seq`` is
    exact. It happens once after a move.
    """
    if tx.dialect == "postgresql":
        await tx.execute("LOCK TABLE change IN SHARE ROW EXCLUSIVE MODE")
    [(last,)] = await tx.fetch("SELECT coalesce(max(seq), 0) FROM change")
    base_seq = 0 if await get_state(tx) is None else int(last)
    await tx.insert(
        CHANGE_FEED, [FeedState(epoch, place, base_seq, 0, 0)], on_conflict="update", id=1
    )


async def list_after(
    tx: Tx, state: FeedState, after: Position, horizon: Horizon, kinds: Sequence[str], count: int
) -> tuple[list[Change], Position | None]:
    """Return changes in the order of commits, and the position that was searched to.

    None: to the horizon. Without ``kinds`` changes of all kinds are returned.
    """
    window = _select_after(tx, state, after, horizon)
    if not kinds:
        changes = await tx.fetch_into(Change, window.limit(count))
        return changes, changes[-1].position if len(changes) == count else None
    scanned = window.limit(SCANNED_ROWS).subquery("scanned")
    wanted = select(scanned).where(scanned.c.kind.in_(kinds))
    in_order = wanted.order_by(scanned.c.xid, scanned.c.seq).limit(count)
    changes = await tx.fetch_into(Change, in_order)
    if len(changes) == count:
        return changes, changes[-1].position
    last_scanned = window.offset(SCANNED_ROWS - 1).limit(1)
    ends = await tx.fetch_into(Change, last_scanned)
    return changes, ends[0].position if ends else None


def _select_after(
    tx: Tx, state: FeedState, after: Position, horizon: Horizon
) -> Select[tuple[int, int, str, str, int]]:
    """Return the SELECT of all changes between a position and the horizon, in order."""
    columns = select(CHANGE.c.xid, CHANGE.c.seq, CHANGE.c.kind, CHANGE.c.record_id, CHANGE.c.at)
    if tx.dialect == "sqlite":
        # By the primary key: of a pair, SQLite would search the index by the first part only.
        return columns.where(CHANGE.c.seq > max(after.seq, state.base_seq)).order_by(CHANGE.c.seq)
    return (
        columns.where(tuple_(CHANGE.c.xid, CHANGE.c.seq) > tuple_(*after))
        .where(CHANGE.c.xid < horizon.settled_before, CHANGE.c.seq > state.base_seq)
        .order_by(CHANGE.c.xid, CHANGE.c.seq)
    )


async def prune(tx: Tx, before: int, count: int) -> int:
    """Delete up to ``count`` of the oldest changes, if from before an instant.

    Remembers their last position, so that older cursors are refused. Returns how many.
    """
    state = await get_state(tx)
    base_seq = 0 if state is None else state.base_seq
    rows = await tx.fetch("SELECT seq, xid, at FROM change ORDER BY seq LIMIT ?", (count,))
    old = [(seq, xid) for seq, xid, at in rows if seq <= base_seq or at < before]
    if not old:
        return 0
    await tx.executemany("DELETE FROM change WHERE seq = ?", [(seq,) for seq, _ in old])
    current = [Position(xid, seq) for seq, xid in old if seq > base_seq]
    if state is not None and current:
        last = max(*current, state.pruned)
        await tx.execute("UPDATE change_feed SET pruned_xid = ?, pruned_seq = ?", last)
    return len(old)
