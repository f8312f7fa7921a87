"""Rows of alerts, of changed rules, and of the processes that evaluate them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from sqlalchemy import delete, select

from homeroom.db.tx import Tx
from homeroom.instant import DAY, SECOND
from homeroom.monitoring.alert_evaluation import REOPEN_WITHIN, Alert
from homeroom.monitoring.alert_rules import DEFAULT_RULES, AlertRule, Severity
from homeroom.monitoring.tables import ALERT, ALERT_RULE, MONITOR_LEASE, MONITOR_PROCESS

ALERT_RETENTION = 90 * DAY
LEASE = 75 * SECOND
"""The time after which another process evaluates, if the one that does is silent."""
GAP = 300 * SECOND
"""A longer time without an evaluation is a downtime: what held before it is not known to hold."""
PROCESS_SILENCE = 600 * SECOND
_LEASE_ID = 1


@dataclass(frozen=True, slots=True)
class ChangedRule:
    """The part of a rule that operators may change."""

    kind: str
    enabled: bool
    threshold: int
    for_seconds: int
    clear_seconds: int
    severity: Severity


@dataclass(frozen=True, slots=True)
class MonitorLease:
    """The right to evaluate alerts. Instants are microseconds UTC."""

    holder: str
    until: int
    observed_from: int
    counted_until: int
    id: int = _LEASE_ID


@dataclass(frozen=True, slots=True)
class ProcessRow:
    """The last report of a process about itself and its machine."""

    id: str
    host: str
    seen_at: int
    report: Mapping[str, int | None]


async def load_rules(tx: Tx) -> dict[str, AlertRule]:
    """Return all rules as they are now, by kind."""
    rules = dict(DEFAULT_RULES)
    for row in await tx.fetch_into(ChangedRule, "SELECT * FROM alert_rule"):
        if row.kind in rules:  # another release may have rules of its own
            rules[row.kind] = replace(
                rules[row.kind],
                enabled=row.enabled,
                threshold=row.threshold,
                for_seconds=row.for_seconds,
                clear_seconds=row.clear_seconds,
                severity=row.severity,
            )
    return rules


async def save_rule(tx: Tx, rule: AlertRule) -> None:
    """Save a rule; one that is as its default needs no row."""
    if rule == DEFAULT_RULES[rule.kind]:
        await tx.execute("DELETE FROM alert_rule WHERE kind = ?", (rule.kind,))
        return
    row = ChangedRule(
        rule.kind,
        rule.enabled,
        rule.threshold,
        rule.for_seconds,
        rule.clear_seconds,
        rule.severity,
    )
    await tx.insert(ALERT_RULE, [row], on_conflict="update")


async def list_current(tx: Tx) -> list[Alert]:
    """Return the alerts that are not cleared, and those that may be reopened."""
    return await tx.fetch_into(
        Alert,
        select(ALERT).where(
            ALERT.c.open_key.is_not(None) | (ALERT.c.cleared_at >= tx.now - REOPEN_WITHIN)
        ),
    )


async def list_alerts(tx: Tx, states: Sequence[str], before: str | None, limit: int) -> list[Alert]:
    """Return alerts of some states, the newest first, below an id."""
    query = select(ALERT).where(ALERT.c.state.in_(list(states)))
    if before is not None:
        query = query.where(ALERT.c.id < before)
    return await tx.fetch_into(Alert, query.order_by(ALERT.c.id.desc()).limit(limit))


async def get_alert(tx: Tx, id: str) -> Alert | None:
    """Return an alert, or None."""
    return await tx.fetch_one_into(Alert, select(ALERT).where(ALERT.c.id == id))


async def find_alerts(tx: Tx, ids: Sequence[str]) -> list[Alert]:
    """Return the alerts of these ids that exist."""
    return await tx.fetch_into(Alert, select(ALERT).where(ALERT.c.id.in_(list(ids))))


async def save_alert(tx: Tx, alert: Alert) -> None:
    """Insert or replace an alert."""
    await tx.insert(ALERT, [alert], on_conflict="update")


async def delete_alert(tx: Tx, id: str) -> None:
    """Delete an alert that was never raised."""
    await tx.execute(delete(ALERT).where(ALERT.c.id == id))


async def count_open_of_message(tx: Tx, message: str) -> int:
    """Return how many alerts that a message told of are open."""
    [(count,)] = await tx.fetch(
        "SELECT COUNT(*) FROM alert WHERE message = ? AND state = 'open'", (message,)
    )
    return int(count)


async def rules_of_message(tx: Tx, message: str) -> set[str]:
    """Return the rules of the alerts that a message told of."""
    rows = await tx.fetch("SELECT DISTINCT rule FROM alert WHERE message = ?", (message,))
    return {rule for (rule,) in rows}


async def read_lease(tx: Tx) -> MonitorLease | None:
    """Return the lease, None before the first evaluation."""
    return await tx.fetch_one_into(MonitorLease, "SELECT * FROM monitor_lease")


async def renew_lease(tx: Tx, holder: str) -> MonitorLease | None:
    """Take or renew the lease; return it as it was, None if another process has it.

    ``observed_from`` of the result is the instant since which alerts are evaluated without a gap.
    """
    await tx.lock("monitoring.lease")
    first = MonitorLease(holder, 0, tx.now, tx.now)
    await tx.insert(MONITOR_LEASE, [first], on_conflict="ignore")
    row = await read_lease(tx)
    assert row is not None  # inserted above
    is_held = tx.now < row.until <= tx.now + LEASE  # a clock that was ahead holds it for no longer
    if is_held and row.holder != holder:
        return None
    has_gap = tx.now - row.until > GAP or tx.now < row.observed_from
    observed_from = tx.now if has_gap else row.observed_from
    await tx.execute(
        "UPDATE monitor_lease SET holder = ?, until = ?, observed_from = ?, counted_until = ?"
        " WHERE id = ?",
        (holder, tx.now + LEASE, observed_from, tx.now, _LEASE_ID),
    )
    if has_gap:
        await _forget_unobserved(tx)
    return replace(row, observed_from=observed_from)


async def _forget_unobserved(tx: Tx) -> None:
    """Begin the spans anew: nothing is known of a time without evaluation."""
    await tx.execute("UPDATE alert SET since = ? WHERE state = 'pending'", (tx.now,))
    await tx.execute(
        "UPDATE alert SET quiet_since = ? WHERE state = 'open' AND quiet_since IS NOT NULL",
        (tx.now,),
    )


async def release_lease(tx: Tx, holder: str) -> None:
    """Let another process evaluate at once."""
    await tx.execute(
        "UPDATE monitor_lease SET until = ? WHERE id = ? AND holder = ?",
        (tx.now, _LEASE_ID, holder),
    )
    await tx.execute("DELETE FROM monitor_process WHERE id = ?", (holder,))


async def save_process(tx: Tx, row: ProcessRow) -> None:
    """Save what a process reports of itself."""
    await tx.insert(MONITOR_PROCESS, [row], on_conflict="update")


async def list_processes(tx: Tx) -> list[ProcessRow]:
    """Return the reports that are not older than ``PROCESS_SILENCE``."""
    return await tx.fetch_into(
        ProcessRow,
        "SELECT * FROM monitor_process WHERE seen_at >= ?",
        (tx.now - PROCESS_SILENCE,),
    )


async def prune_alerts(tx: Tx) -> None:
    """Delete alerts after their retention, and processes that are gone."""
    await tx.execute("DELETE FROM alert WHERE cleared_at < ?", (tx.now - ALERT_RETENTION,))
    await tx.execute("DELETE FROM monitor_process WHERE seen_at < ?", (tx.now - PROCESS_SILENCE,))
