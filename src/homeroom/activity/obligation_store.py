"""SQL of obligations, compliance warnings and schedule runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import select

from homeroom.activity.obligation_rules import Obligation, ObligationDecision, ObligationState
from homeroom.activity.store import (
    ACTIVITY_LOG,
    ACTIVITY_RUN,
    COMPLIANCE_WARNING,
    EXEMPTION,
    OBLIGATION,
    OFFERING,
    PROGRAMME,
    select_managed_programmes,
)
from homeroom.db.personal_data import PersonalRows, rows_naming, rows_owned_by, rows_with_id_in_json
from homeroom.db.tx import Tx

SCHEDULE_RUN_RETENTION_US = 90 * 86_400 * 1_000_000
_SELECT_OBLIGATION = (
    "SELECT o.*, f.title AS offering_title"
    " FROM log_obligation AS o JOIN offering AS f ON f.id = o.offering_id"
)


@dataclass(frozen=True, slots=True)
class ComplianceWarning:
    """A warning of missed weeks that managers got."""

    programme_id: str
    user_id: str
    week_key: str
    """The week of the report that contained it."""
    missed: tuple[str, ...]
    warned_at: int
    resolved_at: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnObligation(Obligation):
    """An obligation with its programme and its log, for its facilitator."""

    programme_title: str
    time_zone: str
    written_log_id: str | None
    """The log of the week, a draft too."""
    log_status: str | None


@dataclass(frozen=True, slots=True)
class ScheduleRun:
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


async def add_obligations(tx: Tx, rows: Sequence[Obligation]) -> int:
    """Insert obligations that have no row yet; a stored deadline stays as it is."""
    return await tx.insert(OBLIGATION, rows, on_conflict="ignore")


async def mark_missed(tx: Tx, programme_id: str) -> int:
    """Set open obligations whose deadline has passed to missed; return their number.

    An obligation that was missed before its deadline is open: a clock was ahead, and opened and
    closed the weeks to come.
    """
    await tx.execute(
        "UPDATE log_obligation SET state = 'open' WHERE programme_id = ? AND state = 'missed'"
        " AND deadline_at > ?",
        (programme_id, tx.now),
    )
    return await tx.execute(
        "UPDATE log_obligation SET state = 'missed' WHERE programme_id = ? AND state = 'open'"
        " AND deadline_at <= ?",
        (programme_id, tx.now),
    )


async def count_obligations(tx: Tx) -> list[tuple[str, str, int]]:
    """Return programme, state and number of all obligations."""
    rows = await tx.fetch(
        "SELECT programme_id, state, COUNT(*) FROM log_obligation GROUP BY programme_id, state"
    )
    return [(programme_id, state, number) for programme_id, state, number in rows]


async def list_obligations(
    tx: Tx,
    programme_id: str,
    first_week: str,
    last_week: str,
    after: str = "",
    count: int = 100_000,
) -> list[Obligation]:
    """Return the obligations of some weeks, by facilitator, after one."""
    return await tx.fetch_into(
        Obligation,
        f"{_SELECT_OBLIGATION} WHERE o.programme_id = ? AND o.week_key >= ? AND o.week_key <= ?"
        " AND o.facilitator_id IN (SELECT DISTINCT p.facilitator_id FROM log_obligation AS p"
        " WHERE p.programme_id = ? AND p.week_key >= ? AND p.week_key <= ?"
        " AND p.facilitator_id > ? ORDER BY p.facilitator_id LIMIT ?)"
        " ORDER BY o.facilitator_id, o.week_key, o.offering_id",
        (programme_id, first_week, last_week, programme_id, first_week, last_week, after, count),
    )


async def list_facilitator_obligations(
    tx: Tx, programme_id: str, week_key: str, user_id: str
) -> list[Obligation]:
    """Return the obligations of one facilitator for a week."""
    return await tx.fetch_into(
        Obligation,
        f"{_SELECT_OBLIGATION} WHERE o.programme_id = ? AND o.week_key = ? AND o.facilitator_id = ?"
        " ORDER BY o.offering_id",
        (programme_id, week_key, user_id),
    )


async def list_own_obligations(
    tx: Tx,
    user_id: str,
    *,
    outstanding: bool | None = None,
    before: tuple[str, str] | None = None,
    count: int = 100,
) -> list[OwnObligation]:
    """Return a facilitator's obligations in all programmes, the latest week first.

    ``outstanding`` True are those without a log, False the others, None all.
    ``before`` is the week and the offering of the last one of the page before.
    """
    wheres, values = ["o.facilitator_id = ?"], [user_id]
    if outstanding is not None:
        wheres.append(f"o.state {'IN' if outstanding else 'NOT IN'} ('open', 'missed')")
    if before is not None:
        wheres.append("(o.week_key < ? OR (o.week_key = ? AND o.offering_id > ?))")
        values += [before[0], *before]
    return await tx.fetch_into(
        OwnObligation,
        "SELECT o.*, f.title AS offering_title, p.title AS programme_title, p.time_zone,"
        " l.id AS written_log_id, l.status AS log_status"
        " FROM log_obligation AS o JOIN offering AS f ON f.id = o.offering_id"
        " JOIN programme AS p ON p.id = o.programme_id"
        " LEFT JOIN activity_log AS l ON l.offering_id = o.offering_id"
        " AND l.week_key = o.week_key"
        f" WHERE {' AND '.join(wheres)} ORDER BY o.week_key DESC, o.offering_id LIMIT ?",
        (*values, count),
    )


async def get_obligation(tx: Tx, offering_id: str, week_key: str) -> Obligation | None:
    """Return the obligation of an offering and a week."""
    return await tx.fetch_one_into(
        Obligation,
        f"{_SELECT_OBLIGATION} WHERE o.offering_id = ? AND o.week_key = ?",
        (offering_id, week_key),
    )


async def list_offering_obligations(tx: Tx, offering_id: str) -> list[Obligation]:
    """Return all obligations of an offering, by week."""
    return await tx.fetch_into(
        Obligation,
        f"{_SELECT_OBLIGATION} WHERE o.offering_id = ? ORDER BY o.week_key",
        (offering_id,),
    )


async def satisfy_obligation(
    tx: Tx, offering_id: str, week_key: str, state: ObligationState, log_id: str
) -> None:
    """Record the log that satisfies an obligation; the first one counts."""
    await tx.execute(
        "UPDATE log_obligation SET state = ?, log_id = ?, satisfied_at = ?"
        " WHERE offering_id = ? AND week_key = ? AND satisfied_at IS NULL",
        (state.value, log_id, tx.now, offering_id, week_key),
    )


async def reopen_obligation(
    tx: Tx, offering_id: str, week_key: str, decision: ObligationDecision | None
) -> None:
    """Reopen an obligation, or make it exempt, as it would be without its log."""
    new_decision = decision or ObligationDecision(
        ObligationState.EXEMPT, "the offering does not run in this week"
    )
    await tx.execute(
        "UPDATE log_obligation SET state = ?, exempt_reason = ?, log_id = NULL,"
        " satisfied_at = NULL WHERE offering_id = ? AND week_key = ?",
        (new_decision.state.value, new_decision.reason, offering_id, week_key),
    )


async def reassign_obligations(tx: Tx, offering_id: str, facilitator_id: str) -> None:
    """Move open obligations to another facilitator; closed weeks stay."""
    await tx.execute(
        "UPDATE log_obligation SET facilitator_id = ? WHERE offering_id = ?"
        " AND satisfied_at IS NULL AND deadline_at > ?",
        (facilitator_id, offering_id, tx.now),
    )


async def last_week_by_offering(tx: Tx, programme_id: str) -> dict[str, str]:
    """Return by offering the last week that has a row."""
    rows = await tx.fetch(
        "SELECT offering_id, MAX(week_key) FROM log_obligation WHERE programme_id = ?"
        " GROUP BY offering_id",
        (programme_id,),
    )
    return dict(rows)


async def open_warnings(tx: Tx, programme_id: str, before_week: str) -> dict[str, list[str]]:
    """Return by facilitator the missed weeks of open warnings from earlier reports.

    Those of ``before_week`` itself are left out, so that a repeated run reports the same.
    """
    rows = await tx.fetch_into(
        ComplianceWarning,
        "SELECT * FROM compliance_warning"
        " WHERE programme_id = ? AND resolved_at IS NULL AND week_key < ?",
        (programme_id, before_week),
    )
    return {warning.user_id: list(warning.missed) for warning in rows}


async def find_missed_weeks(
    tx: Tx, manager_id: str, user_ids: Sequence[str]
) -> dict[str, list[str]]:
    """Return by facilitator the missed weeks of a manager's open warnings."""
    rows = await tx.fetch_into(
        ComplianceWarning,
        select(COMPLIANCE_WARNING).where(
            COMPLIANCE_WARNING.c.user_id.in_(user_ids),
            COMPLIANCE_WARNING.c.programme_id.in_(select_managed_programmes(manager_id)),
            COMPLIANCE_WARNING.c.resolved_at.is_(None),
        ),
    )
    weeks: dict[str, set[str]] = {}
    for row in rows:
        weeks.setdefault(row.user_id, set()).update(row.missed)
    return {user_id: sorted(missed) for user_id, missed in weeks.items()}


async def record_warning(
    tx: Tx, programme_id: str, user_id: str, week_key: str, missed: Sequence[str]
) -> None:
    """Record the missed weeks of which managers were warned."""
    warning = ComplianceWarning(programme_id, user_id, week_key, tuple(missed), tx.now)
    await tx.insert(COMPLIANCE_WARNING, [warning], on_conflict="update")


async def open_warning_week(tx: Tx, programme_id: str, user_id: str) -> str | None:
    """Return the week of a facilitator's open warning."""
    row = await tx.fetch_one_into(
        ComplianceWarning,
        "SELECT * FROM compliance_warning"
        " WHERE programme_id = ? AND user_id = ? AND resolved_at IS NULL",
        (programme_id, user_id),
    )
    return None if row is None else row.week_key


async def resolve_warning(tx: Tx, programme_id: str, user_id: str) -> None:
    """Resolve a warning."""
    await tx.execute(
        "UPDATE compliance_warning SET resolved_at = ?"
        " WHERE programme_id = ? AND user_id = ? AND resolved_at IS NULL",
        (tx.now, programme_id, user_id),
    )


async def begin_schedule_run(tx: Tx, schedule: str, slot: str, slot_at: int, late: bool) -> None:
    """Record that a slot's fan-out begins, or begins again after a crash."""
    run = ScheduleRun(schedule, slot, slot_at, "fanning_out", late, 0, 0, tx.now, None)
    await tx.insert(ACTIVITY_RUN, [run], on_conflict="ignore")


async def count_schedule_run(tx: Tx, schedule: str, slot: str, sent: int, repeated: int) -> None:
    """Add to a fan-out's counts, in the transaction that sent the messages."""
    await tx.execute(
        "UPDATE activity_run SET sent = sent + ?, repeated = repeated + ?"
        " WHERE schedule = ? AND slot = ?",
        (sent, repeated, schedule, slot),
    )


async def finish_schedule_run(tx: Tx, schedule: str, slot: str) -> None:
    """Record that a slot's fan-out is done."""
    await tx.execute(
        "UPDATE activity_run SET state = 'done', finished_at = ? WHERE schedule = ? AND slot = ?",
        (tx.now, schedule, slot),
    )


async def list_schedule_runs(tx: Tx, schedule: str | None, count: int) -> list[ScheduleRun]:
    """Return the last fan-outs, newest first."""
    where, values = ("", ()) if schedule is None else (" WHERE schedule = ?", (schedule,))
    return await tx.fetch_into(
        ScheduleRun,
        f"SELECT * FROM activity_run{where} ORDER BY slot_at DESC, schedule LIMIT ?",
        (*values, count),
    )


async def is_schedule_run_done(tx: Tx, schedule: str, slot: str) -> bool:
    """Return whether the fan-out of a slot is done."""
    row = await tx.fetch_one(
        "SELECT 1 FROM activity_run WHERE schedule = ? AND slot = ? AND state = 'done'",
        (schedule, slot),
    )
    return row is not None


async def prune_schedule_runs(tx: Tx, before: int) -> int:
    """Delete fan-outs of slots before an instant."""
    return await tx.execute("DELETE FROM activity_run WHERE slot_at < ?", (before,))


PERSONAL = (
    rows_naming(OFFERING.c.facilitator_id),
    rows_naming(ACTIVITY_LOG.c.facilitator_id),
    rows_naming(OBLIGATION.c.facilitator_id),
    rows_naming(EXEMPTION.c.created_by),
    PersonalRows(  # without it, exempt weeks would be evaluated as missed
        EXEMPTION,
        lambda user_id: EXEMPTION.c.user_id == user_id,
        lambda user_id, pseudonym: {"user_id": pseudonym, "note": None},
        frozenset(EXEMPTION.columns.keys()) - {"created_by"},
    ),
    rows_owned_by(COMPLIANCE_WARNING.c.user_id),
    rows_with_id_in_json(PROGRAMME.c.managers),
)
