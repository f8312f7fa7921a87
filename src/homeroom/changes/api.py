"""Public interface of changes: record them, and read them in commit order.

``GET /api/v1/changes`` loses nothing: its order is that of commits, and it stops before what is
still being written (decision 0024). The packages that own the records show them, and register that
in ``bootstrap``.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import quote, unquote
from uuid import uuid4

import structlog

from homeroom.changes import store
from homeroom.changes.position import FIRST, Position, decode_cursor, encode_cursor
from homeroom.changes.store import END_EPOCH, PERSONAL, Change, FeedState, Horizon, NewChange
from homeroom.db.database import Database
from homeroom.db.tx import Tx
from homeroom.errors import Gone, Invalid, Unavailable

__all__ = [
    "COMPLETIONS",
    "CREDENTIALS",
    "END_EPOCH",
    "ENROLMENTS",
    "NOW",
    "PERSONAL",
    "STEPS",
    "Change",
    "ChangeFeed",
    "ChangeKind",
    "ChangePage",
    "CursorGone",
    "LoadRecords",
    "begin_epoch_after_move",
    "record",
    "record_id",
    "split_record_id",
]

log = structlog.get_logger(__name__)

ChangeKind = Literal["completions", "steps", "credentials", "enrolments"]
COMPLETIONS: ChangeKind = "completions"
STEPS: ChangeKind = "steps"
CREDENTIALS: ChangeKind = "credentials"
ENROLMENTS: ChangeKind = "enrolments"
NOW = "now"
"""The cursor of a consumer that needs nothing from before."""

_HINT_TOPICS: Mapping[ChangeKind, str] = {
    COMPLETIONS: "completions",
    STEPS: "completions",
    CREDENTIALS: "credentials",
}
"""Enrolments are left out: ingest makes thousands, each with a hint about progress."""

LoadRecords = Callable[[Tx, Sequence[str]], Awaitable[Mapping[str, Mapping[str, Any]]]]
"""Return the present data of the records of one kind that exist, by record id."""

_RESTART_HINT = (
    "Start anew: request cursor=now, keep its nextCursor, read the lists that you need as a whole,"
    " and follow that cursor. Without a cursor you get all changes that are kept."
)


class CursorGone(Gone):
    """The feed of changes cannot continue from this cursor."""

    code = "cursor_gone"


@dataclass(frozen=True, slots=True)
class ChangePage:
    """Some changes with the present data of their records."""

    items: Sequence[tuple[Change, Mapping[str, Any] | None]]
    """Data is None where the record is gone."""
    next_cursor: str
    has_more: bool
    """Whether the horizon was not reached: more can be read at once."""


def record_id(*parts: object) -> str:
    """Join parts with ``/`` to the id of a record that has no id of its own.

    Parts are percent-encoded, so that the id can stand in a path.
    """
    return "/".join(quote(str(part), safe="") for part in parts)


def split_record_id(id: str) -> list[str]:
    """Return the parts of ``record_id``."""
    return [unquote(part) for part in id.split("/")]


def record(tx: Tx, kind: ChangeKind, changed: Iterable[tuple[str, str]]) -> None:
    """Record changes with the commit of this transaction, as (record id, user id).

    All changes of a transaction are one INSERT; a record that changed twice is one change. Streams
    to people and their managers get a hint.
    """
    new = [NewChange(kind, id, user_id, tx.now) for id, user_id in changed]
    store.add(tx, new)
    if (topic := _HINT_TOPICS.get(kind)) is not None:
        for user_id in dict.fromkeys(each.user_id for each in new):
            tx.notify_about(user_id, topic)


class ChangeFeed:
    """The feed, on a database whose processes all record their changes."""

    def __init__(self, db: Database, records: Mapping[ChangeKind, LoadRecords]) -> None:
        """Use the packages' functions that load the records of a kind."""
        self._db, self._records = db, records

    async def read(self, cursor: str | None, kinds: Sequence[ChangeKind], limit: int) -> ChangePage:
        """Return up to ``limit`` changes after a cursor or ``NOW``, or the first ones.

        A record that changed more than once within a page is in it once, at its last change.
        Raises ``CursorGone`` for a cursor of another epoch or from before what is kept, and
        ``Invalid`` for a text that is no cursor.
        """
        given = None if cursor is None or cursor == NOW else _decode(cursor)
        await begin_epoch_after_move(self._db)
        async with self._db.read() as tx:
            state, horizon = await store.get_state(tx), await store.fetch_horizon(tx)
            if state is None:
                raise Unavailable(retry_after_seconds=1)  # a restore is under way
            if cursor == NOW:
                return ChangePage((), encode_cursor(state.epoch, horizon.end), False)
            after = FIRST
            if given is not None:
                _check_cursor(state, horizon, *given)
                after = given[1]
            changes, searched_to = await store.list_after(tx, state, after, horizon, kinds, limit)
            latest = {(each.kind, each.record_id): each for each in changes}
            in_order = [each for each in changes if latest[each.kind, each.record_id] is each]
            data = await self._load(tx, in_order)
        end = max(after, horizon.end) if searched_to is None else searched_to
        return ChangePage(
            [(each, data.get((each.kind, each.record_id))) for each in in_order],
            encode_cursor(state.epoch, end),
            searched_to is not None,
        )

    async def _load(
        self, tx: Tx, changes: Sequence[Change]
    ) -> dict[tuple[str, str], Mapping[str, Any]]:
        """Return the data of the records by kind and id."""
        found: dict[tuple[str, str], Mapping[str, Any]] = {}
        for kind, load in self._records.items():
            ids = [each.record_id for each in changes if each.kind == kind]
            if ids:
                by_id = await load(tx, ids)
                found.update(((kind, id), data) for id, data in by_id.items())
        return found


async def begin_epoch_after_move(db: Database) -> None:
    """Begin an epoch in a new database, and in one whose data came from another.

    The numbers of transactions begin anew on another server, so cursors from before would pass
    over changes. Every process calls this before it writes, and every read of the feed.
    """
    async with db.read() as tx:
        state, place = await store.get_state(tx), await store.fetch_place(tx)
    if state is not None and state.place == place:
        return
    async with db.write() as tx:
        await tx.lock("change feed")
        state, place = await store.get_state(tx), await store.fetch_place(tx)
        if state is not None and state.place == place:
            return
        await store.begin_epoch(tx, str(uuid4()), place)
    if state is not None:
        log.info("change_epoch_begun", reason="the data has moved to this database")


def _decode(cursor: str) -> tuple[str, Position]:
    try:
        return decode_cursor(cursor)
    except ValueError as error:
        raise Invalid("The cursor cannot be read.", hint=_RESTART_HINT) from error


def _check_cursor(state: FeedState, horizon: Horizon, epoch: str, position: Position) -> None:
    """Raise ``CursorGone`` unless the feed has all changes after a cursor."""
    if epoch != state.epoch:
        raise CursorGone(
            "The cursor is of an earlier epoch: the database was restored, copied or moved since.",
            hint=_RESTART_HINT,
            details={"reason": "other_epoch"},
        )
    if position < state.pruned:
        raise CursorGone(
            "Changes after this cursor have been deleted (HOMEROOM_CHANGE_RETENTION).",
            hint=_RESTART_HINT,
            details={"reason": "pruned"},
        )
    if position.xid > horizon.last_xid or (position.xid == 0 and position > horizon.end):
        raise CursorGone(
            "The cursor is ahead of the database, which holds earlier data than when it was given.",
            hint=_RESTART_HINT,
            details={"reason": "ahead"},
        )
