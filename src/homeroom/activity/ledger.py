"""The rows of what is owed, what was warned of, and which runs there were."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from homeroom.activity.owed import Owed, State
from homeroom.activity.programme import Obligation
from homeroom.db.tx import Row, Tx

_SELECT = (
    "SELECT o.offering_id, f.title, o.week_key, o.facilitator_id, o.programme_id, o.opens_at,"
    " o.deadline_at, o.state, o.exempt_reason, o.log_id, o.satisfied_at"
    " FROM log_obligation AS o JOIN offering AS f ON f.id = o.offering_id"
)


@dataclass(frozen=True, slots=True)
class Run:
    """One fan-out of a slot."""

    schedule: str
    slot: str
    slot_at: int
    state: str
    late: bool
    sent: int
    repeated: int
    started_at: int
    finished_at: int | None


def _obligation(row: Row) -> Obligation:
    return Obligation(
        offering_id=row[0],
        offering_title=row[1],
        week_key=row[2],
        facilitator_id=row[3],
        programme_id=row[4],
        opens_at=row[5],
        deadline_at=row[6],
        state=State(row[7]),
        exempt_reason=row[8],
        log_id=row[9],
        satisfied_at=row[10],
    )


async def add(tx: Tx, rows: Sequence[Obligation]) -> int:
    """Insert what is owed where no row is yet; a deadline that is there stays as it is."""
    return await tx.executemany(
        "INSERT INTO log_obligation (offering_id, week_key, facilitator_id, programme_id, opens_at,"
        " deadline_at, state, exempt_reason) VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
        " ON CONFLICT (offering_id, week_key) DO NOTHING",
        [
            (
                row.offering_id,
                row.week_key,
                row.facilitator_id,
                row.programme_id,
                row.opens_at,
                row.deadline_at,
                row.state.value,
                row.exempt_reason,
            )
            for row in rows
        ],
    )


async def close_passed(tx: Tx, programme_id: str) -> int:
    """Set what is open although its deadline has passed to missed."""
    return await tx.execute(
        "UPDATE log_obligation SET state = 'missed' WHERE programme_id = ? AND state = 'open'"
        " AND deadline_at <= ?",
        (programme_id, tx.now),
    )


async def of_programme(
    tx: Tx,
    programme_id: str,
    first_week: str,
    last_week: str,
    after: str = "",
    count: int = 100_000,
) -> list[Obligation]:
    """Return what is owed in some weeks by facilitators after one, by facilitator."""
    rows = await tx.fetch(
        f"{_SELECT} WHERE o.programme_id = ? AND o.week_key >= ? AND o.week_key <= ?"
        " AND o.facilitator_id IN (SELECT DISTINCT p.facilitator_id FROM log_obligation AS p"
        " WHERE p.programme_id = ? AND p.week_key >= ? AND p.week_key <= ?"
        " AND p.facilitator_id > ? ORDER BY p.facilitator_id LIMIT ?)"
        " ORDER BY o.facilitator_id, o.week_key, o.offering_id",
        (programme_id, first_week, last_week, programme_id, first_week, last_week, after, count),
    )
    return [_obligation(row) for row in rows]


async def of_user(tx: Tx, programme_id: str, week_key: str, user_id: str) -> list[Obligation]:
    """Return what one facilitator owes for a week."""
    rows = await tx.fetch(
        f"{_SELECT} WHERE o.programme_id = ? AND o.week_key = ? AND o.facilitator_id = ?"
        " ORDER BY o.offering_id",
        (programme_id, week_key, user_id),
    )
    return [_obligation(row) for row in rows]


async def one(tx: Tx, offering_id: str, week_key: str) -> Obligation | None:
    """Return what is owed for an offering and a week."""
    row = await tx.fetch_one(
        f"{_SELECT} WHERE o.offering_id = ? AND o.week_key = ?", (offering_id, week_key)
    )
    return None if row is None else _obligation(row)


async def of_offering(tx: Tx, offering_id: str) -> list[Obligation]:
    """Return everything that was ever owed for an offering."""
    rows = await tx.fetch(f"{_SELECT} WHERE o.offering_id = ? ORDER BY o.week_key", (offering_id,))
    return [_obligation(row) for row in rows]


async def satisfy(tx: Tx, offering_id: str, week_key: str, state: State, log_id: str) -> None:
    """Note the log that satisfies an obligation; the first one counts, edits change nothing."""
    await tx.execute(
        "UPDATE log_obligation SET state = ?, log_id = ?, satisfied_at = ?"
        " WHERE offering_id = ? AND week_key = ? AND satisfied_at IS NULL",
        (state.value, log_id, tx.now, offering_id, week_key),
    )


async def reopen(tx: Tx, offering_id: str, week_key: str, now_owed: Owed | None) -> None:
    """Let something be owed again, or be exempt as it would be without its log."""
    found = now_owed or Owed(State.EXEMPT, "the offering does not run in this week")
    await tx.execute(
        "UPDATE log_obligation SET state = ?, exempt_reason = ?, log_id = NULL,"
        " satisfied_at = NULL WHERE offering_id = ? AND week_key = ?",
        (found.state.value, found.reason, offering_id, week_key),
    )


async def hand_over(tx: Tx, offering_id: str, facilitator_id: str) -> None:
    """Let somebody else owe what is open; what has ended stays with whom it was."""
    await tx.execute(
        "UPDATE log_obligation SET facilitator_id = ? WHERE offering_id = ?"
        " AND satisfied_at IS NULL AND deadline_at > ?",
        (facilitator_id, offering_id, tx.now),
    )


async def last_weeks(tx: Tx, programme_id: str) -> dict[str, str]:
    """Return by offering the last week that there is a row for."""
    rows = await tx.fetch(
        "SELECT offering_id, MAX(week_key) FROM log_obligation WHERE programme_id = ?"
        " GROUP BY offering_id",
        (programme_id,),
    )
    return dict(rows)


async def warned(tx: Tx, programme_id: str, before_week: str) -> dict[str, list[str]]:
    """Return by facilitator the missed weeks of the warnings that stand from earlier reports.

    Those of the report at hand are left out, so that a run that is done again says the same.
    """
    rows = await tx.fetch(
        "SELECT user_id, missed FROM compliance_warning"
        " WHERE programme_id = ? AND resolved_at IS NULL AND week_key < ?",
        (programme_id, before_week),
    )
    return {row[0]: msgspec.json.decode(row[1], type=list[str]) for row in rows}


async def warn(
    tx: Tx, programme_id: str, user_id: str, week_key: str, missed: Sequence[str]
) -> None:
    """Remember which missed weeks managers were warned of."""
    await tx.execute(
        "INSERT INTO compliance_warning (programme_id, user_id, week_key, missed, warned_at)"
        " VALUES (?, ?, ?, ?, ?) ON CONFLICT (programme_id, user_id) DO UPDATE SET"
        " week_key = excluded.week_key, missed = excluded.missed,"
        " warned_at = excluded.warned_at, resolved_at = NULL",
        (programme_id, user_id, week_key, msgspec.json.encode(list(missed)).decode(), tx.now),
    )


async def standing(tx: Tx, programme_id: str, user_id: str) -> str | None:
    """Return the week of the warning that stands for a facilitator."""
    row = await tx.fetch_one(
        "SELECT week_key FROM compliance_warning"
        " WHERE programme_id = ? AND user_id = ? AND resolved_at IS NULL",
        (programme_id, user_id),
    )
    return None if row is None else row[0]


async def resolve_warning(tx: Tx, programme_id: str, user_id: str) -> None:
    """Take a warning back."""
    await tx.execute(
        "UPDATE compliance_warning SET resolved_at = ?"
        " WHERE programme_id = ? AND user_id = ? AND resolved_at IS NULL",
        (tx.now, programme_id, user_id),
    )


async def begin_run(tx: Tx, schedule: str, slot: str, slot_at: int, late: bool) -> None:
    """Note that a slot's fan-out begins, or begins again after a crash."""
    await tx.execute(
        "INSERT INTO activity_run (schedule, slot, slot_at, state, late, sent, repeated,"
        " started_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (schedule, slot) DO NOTHING",
        (schedule, slot, slot_at, "fanning_out", int(late), 0, 0, tx.now),
    )


async def count_run(tx: Tx, schedule: str, slot: str, sent: int, repeated: int) -> None:
    """Add to what a fan-out has done, in the transaction that did it."""
    await tx.execute(
        "UPDATE activity_run SET sent = sent + ?, repeated = repeated + ?"
        " WHERE schedule = ? AND slot = ?",
        (sent, repeated, schedule, slot),
    )


async def end_run(tx: Tx, schedule: str, slot: str) -> None:
    """Note that a slot's fan-out has come to its end."""
    await tx.execute(
        "UPDATE activity_run SET state = 'done', finished_at = ? WHERE schedule = ? AND slot = ?",
        (tx.now, schedule, slot),
    )


async def runs(tx: Tx, schedule: str | None, count: int) -> list[Run]:
    """Return the last fan-outs, newest first."""
    where, values = ("", ()) if schedule is None else (" WHERE schedule = ?", (schedule,))
    rows = await tx.fetch(
        "SELECT schedule, slot, slot_at, state, late, sent, repeated, started_at, finished_at"
        f" FROM activity_run{where} ORDER BY slot_at DESC, schedule LIMIT ?",
        (*values, count),
    )
    return [
        Run(
            schedule=row[0],
            slot=row[1],
            slot_at=row[2],
            state=row[3],
            late=bool(row[4]),
            sent=row[5],
            repeated=row[6],
            started_at=row[7],
            finished_at=row[8],
        )
        for row in rows
    ]


async def prune_runs(tx: Tx, before: int) -> int:
    """Drop fan-outs of slots before an instant."""
    return await tx.execute("DELETE FROM activity_run WHERE slot_at < ?", (before,))
