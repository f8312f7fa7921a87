"""Events set aside: those the catalogue does not know yet, and those that conflict with another.

The former are replayed once the course or chapter exists, the latter are kept for inspection only.
Both are pruned after ``HOMEROOM_QUARANTINE_TTL``.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import msgspec

from homeroom.db.tx import Row, Tx
from homeroom.progress.event import Event, identity_of

CONFLICT = "conflict"
MOST_HELD = 10_000
"""Of one learner: a token of theirs could send events of made-up courses without end."""

_INSERT = (
    "INSERT INTO progress_quarantine (id, body_hash, reason, user_id, course_id, chapter_id, event,"
    " received_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id, body_hash) DO NOTHING"
)
_COLUMNS = "seq, id, reason, user_id, course_id, chapter_id, event, received_at"
_event = msgspec.json.Decoder(Event)


@dataclass(frozen=True, slots=True)
class Held:
    """An event that is set aside. ``seq`` grows with every one."""

    seq: int
    id: str
    reason: str
    """``unknown_course``, ``unknown_chapter``, ``conflict``, or what a replay found instead."""
    user_id: str
    course_id: str
    chapter_id: str | None
    event: Event
    received_at: int


async def keep(tx: Tx, held: Sequence[tuple[Event, str]]) -> None:
    """Set events aside, each with its reason; one that is there already stays as it is."""
    await tx.executemany(
        _INSERT,
        [
            (event.id, identity_of(event), reason, event.user_id, event.course_id, event.chapter_id,
             msgspec.json.encode(event).decode(), event.received_at)
            for event, reason in held
        ],
    )  # fmt: skip


async def room(tx: Tx, user_ids: Iterable[str]) -> dict[str, int]:
    """Return how many more events may be set aside of each of these learners."""
    most = MOST_HELD
    rows = await tx.fetch_keyed(
        "SELECT k.column1 AS user_id, (SELECT count(*) FROM"  # noqa: S608  # constants only
        " (SELECT 1 FROM progress_quarantine AS q WHERE q.user_id = k.column1"
        f" LIMIT {most}) AS held) AS held FROM {{keys}} AS k",
        [(user_id,) for user_id in sorted(user_ids)],
    )
    return {user_id: most - held for user_id, held in rows}


async def listed(tx: Tx, after: int, limit: int, course_id: str | None = None) -> list[Held]:
    """Return held events in the order in which they came, after a ``seq``."""
    about, values = _about(course_id, None)
    rows = await tx.fetch(
        f"SELECT {_COLUMNS} FROM progress_quarantine WHERE seq > ?{about}"  # noqa: S608  # constants only
        " ORDER BY seq LIMIT ?",
        (after, *values, limit),
    )
    return [_held(row) for row in rows]


def _about(course_id: str | None, user_id: str | None) -> tuple[str, tuple[str, ...]]:
    """Return the conditions on course and learner, where they matter, and their values."""
    wanted = {"course_id": course_id, "user_id": user_id}
    known = {name: value for name, value in wanted.items() if value is not None}
    return "".join(f" AND {name} = ?" for name in known), tuple(known.values())


async def replayable(
    tx: Tx, after: int, limit: int, course_id: str | None = None, user_id: str | None = None
) -> list[Held]:
    """Return held events that a replay may bring in: all but conflicts."""
    about, values = _about(course_id, user_id)
    rows = await tx.fetch(
        f"SELECT {_COLUMNS} FROM progress_quarantine"  # noqa: S608  # constants only
        f" WHERE seq > ? AND reason <> ?{about} ORDER BY seq LIMIT ?",
        (after, CONFLICT, *values, limit),
    )
    return [_held(row) for row in rows]


def _held(row: Row) -> Held:
    seq, id, reason, user_id, course_id, chapter_id, event, received_at = row
    return Held(seq, id, reason, user_id, course_id, chapter_id, _event.decode(event), received_at)


async def release(tx: Tx, seqs: Sequence[int]) -> None:
    """Forget held events that were settled."""
    await tx.executemany(
        "DELETE FROM progress_quarantine WHERE seq = ?", [(seq,) for seq in sorted(seqs)]
    )


async def set_reasons(tx: Tx, reasons: Sequence[tuple[int, str]]) -> None:
    """Say by ``seq`` why events are still held, where a replay found another reason."""
    await tx.executemany(
        "UPDATE progress_quarantine SET reason = ? WHERE seq = ?",
        [(reason, seq) for seq, reason in sorted(reasons)],
    )


async def has_replayable(tx: Tx, course_id: str, user_id: str | None = None) -> bool:
    """Say whether a replay has anything to bring in for a course, or for one of its learners."""
    about, values = _about(course_id, user_id)
    rows = await tx.fetch(
        f"SELECT 1 FROM progress_quarantine WHERE reason <> ?{about} LIMIT 1",  # noqa: S608  # constants only
        (CONFLICT, *values),
    )
    return bool(rows)


async def prune(tx: Tx, received_before: int, limit: int) -> int:
    """Drop up to ``limit`` events that came before an instant; return how many."""
    return await tx.execute(
        "DELETE FROM progress_quarantine WHERE seq IN (SELECT seq FROM progress_quarantine"
        " WHERE received_at < ? ORDER BY seq LIMIT ?)",
        (received_before, limit),
    )


async def count(tx: Tx) -> int:
    """Return how many events are set aside."""
    [[number]] = await tx.fetch("SELECT count(*) FROM progress_quarantine")
    return int(number)
