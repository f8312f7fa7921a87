"""Opens, closes and reevaluates obligations, and resolves outdated messages."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace

from homeroom.activity import obligation_store, store
from homeroom.activity.downtime_rules import find_down_weeks
from homeroom.activity.obligation_rules import (
    COMPLIANCE_WEEKS,
    Obligation,
    Offering,
    Programme,
    WarningChange,
    Week,
    closed_weeks,
    deadline_at,
    decide_obligation,
    local_date,
    opens_at,
    parse_week,
    week_at,
)
from homeroom.activity.recipient_selection import (
    compliance_key,
    find_compliance_cases,
    reminder_key,
    warning_key,
)
from homeroom.db.tx import Tx
from homeroom.jobs.api import downtimes
from homeroom.notify.api import Notifications

_MAX_WEEKS_OPENED = 60
"""Weeks that are opened at once after a downtime, at most."""


async def missing_obligations(tx: Tx, programme: Programme) -> list[Obligation]:
    """Return the obligations up to the current week that have no row yet.

    No obligation exists before the offering was created in Homeroom.
    """
    zone = programme.zone
    current = week_at(tx.now, zone)
    last = await obligation_store.last_week_by_offering(tx, programme.id)
    created_at = await store.offering_creation_times(tx, programme.id)
    rules = await store.list_exemptions(tx, programme.id)
    missing: list[Obligation] = []
    for offering in _clip_to_creation(
        await store.list_offerings(tx, programme.id), created_at, programme
    ):
        known = last.get(offering.id)
        week = (
            week_at(created_at[offering.id], zone)
            if known is None
            else parse_week(known).shifted(1)
        )
        week = max(week, current.shifted(-_MAX_WEEKS_OPENED))
        while week <= current:
            decision = decide_obligation(
                offering,
                week,
                rules,
                closed_on=programme.closed_on,
                last_day_to_join=programme.last_day_to_join,
            )
            if decision is not None:
                missing.append(
                    Obligation(
                        offering_id=offering.id,
                        offering_title=offering.title,
                        week_key=week.key,
                        facilitator_id=offering.facilitator_id,
                        programme_id=programme.id,
                        opens_at=opens_at(week, zone),
                        deadline_at=deadline_at(week, zone, programme.grace_minutes),
                        state=decision.state,
                        exempt_reason=decision.reason,
                    )
                )
            week = week.shifted(1)
    return missing


def _clip_to_creation(
    offerings: Iterable[Offering], created_at: Mapping[str, int], programme: Programme
) -> list[Offering]:
    """Return offerings that begin on the day of their creation at the earliest.

    A facilitator who is entered on a Saturday has joined on that Saturday.
    """
    return [
        replace(
            each, starts_on=max(each.starts_on, local_date(created_at[each.id], programme.zone))
        )
        for each in offerings
    ]


async def open_and_close_weeks(tx: Tx, programme: Programme) -> int:
    """Open due obligations, close past ones, and return the number of new rows."""
    added = await obligation_store.add_obligations(tx, await missing_obligations(tx, programme))
    await obligation_store.mark_missed(tx, programme.id)
    return added


async def reevaluate_obligations(
    tx: Tx,
    notifications: Notifications,
    programme: Programme,
    rows: Iterable[Obligation],
) -> None:
    """Evaluate obligations without a log again after a change of rules."""
    rules = await store.list_exemptions(tx, programme.id)
    created_at = await store.offering_creation_times(tx, programme.id)
    known = {
        each.id: each
        for each in _clip_to_creation(
            await store.list_offerings(tx, programme.id), created_at, programme
        )
    }
    touched: set[tuple[str, str]] = set()
    for row in rows:
        if row.satisfied_at is not None:
            continue
        decision = decide_obligation(
            known[row.offering_id],
            row.week,
            rules,
            closed_on=programme.closed_on,
            last_day_to_join=programme.last_day_to_join,
        )
        await obligation_store.reopen_obligation(tx, row.offering_id, row.week_key, decision)
        touched.add((row.week_key, row.facilitator_id))
    await obligation_store.mark_missed(tx, programme.id)
    for week_key, user_id in sorted(touched):
        await resolve_reminders(tx, notifications, programme, week_key, user_id)
    await resolve_outdated_warnings(
        tx, notifications, programme, {user_id for _, user_id in touched}
    )


async def resolve_reminders(
    tx: Tx, notifications: Notifications, programme: Programme, week_key: str, user_id: str
) -> None:
    """Resolve reminders of a week once none of its obligations is outstanding."""
    rows = await obligation_store.list_facilitator_obligations(tx, programme.id, week_key, user_id)
    if any(row.is_outstanding(tx.now) for row in rows):
        return
    keys = [
        reminder_key(programme.id, week_key, user_id),
        warning_key(programme.id, week_key, user_id),
    ]
    await notifications.resolve(tx, keys)


async def resolve_outdated_warnings(
    tx: Tx, notifications: Notifications, programme: Programme, user_ids: Collection[str]
) -> None:
    """Resolve warnings of facilitators below the threshold, without a mail."""
    warned = await obligation_store.open_warnings(tx, programme.id, "9999-W99")
    own_warnings = {user_id: weeks for user_id, weeks in warned.items() if user_id in user_ids}
    if not own_warnings:
        return
    history = await list_compliance_history(tx, programme, week_at(tx.now, programme.zone))
    down_weeks = await list_down_weeks(tx, programme, history)
    for case in find_compliance_cases(programme, history, own_warnings, tx.now, down_weeks):
        if case.user_id in own_warnings and case.result.warning_change is WarningChange.RESOLVED:
            await resolve_compliance_warning(tx, notifications, programme, case.user_id)


async def resolve_compliance_warning(
    tx: Tx, notifications: Notifications, programme: Programme, user_id: str
) -> None:
    """Resolve a compliance warning with its messages."""
    week_key = await obligation_store.open_warning_week(tx, programme.id, user_id)
    if week_key is None:
        return
    await obligation_store.resolve_warning(tx, programme.id, user_id)
    recipients = {*programme.managers, user_id}
    keys = [compliance_key(programme.id, user_id, week_key, each) for each in sorted(recipients)]
    await notifications.resolve(tx, keys)


async def list_compliance_history(tx: Tx, programme: Programme, current: Week) -> list[Obligation]:
    """Return the obligations of the weeks that compliance evaluates, and since."""
    weeks = closed_weeks(tx.now, programme.zone, programme.grace_minutes, COMPLIANCE_WEEKS)
    return await obligation_store.list_obligations(tx, programme.id, weeks[0].key, current.key)


async def list_down_weeks(
    tx: Tx, programme: Programme, rows: Sequence[Obligation]
) -> dict[str, int]:
    """Return the weeks in which Homeroom was down, as ``find_down_weeks``."""
    if not rows:
        return {}
    since = min(row.opens_at for row in rows)
    return find_down_weeks(programme, rows, await downtimes(tx, since))
