"""Keep the rows of what is owed as the rules say: opened, judged again, and settled."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace

from homeroom.activity import ledger, store
from homeroom.activity.compliance import WINDOW, News
from homeroom.activity.owed import Offering, owed
from homeroom.activity.programme import Obligation, Programme
from homeroom.activity.selection import cases, compliance_key, reminder_key, warning_key
from homeroom.activity.week import (
    Week,
    closed_weeks,
    deadline_at,
    local_date,
    opens_at,
    parse_week,
    week_at,
)
from homeroom.db.tx import Tx
from homeroom.notify.api import Notifications

_MOST_WEEKS = 60
"""Weeks that are opened at once after a downtime, at most."""


async def missing_rows(tx: Tx, programme: Programme) -> list[Obligation]:
    """Return what should be owed up to the current week and has no row yet.

    What was before Homeroom was told of an offering is nobody's debt.
    """
    zone = programme.zone
    current = week_at(tx.now, zone)
    last = await ledger.last_weeks(tx, programme.id)
    made = await store.made_at(tx, programme.id)
    rules = [each.rule for each in await store.exemptions(tx, programme.id)]
    found: list[Obligation] = []
    for offering in _as_told(await store.offerings(tx, programme.id), made, programme):
        known = last.get(offering.id)
        week = week_at(made[offering.id], zone) if known is None else parse_week(known).shifted(1)
        week = max(week, current.shifted(-_MOST_WEEKS))
        while week <= current:
            what = owed(
                offering,
                week,
                rules,
                closed_on=programme.closed_on,
                last_day_to_join=programme.last_day_to_join,
            )
            if what is not None:
                found.append(
                    Obligation(
                        offering_id=offering.id,
                        offering_title=offering.title,
                        week_key=week.key,
                        facilitator_id=offering.facilitator_id,
                        programme_id=programme.id,
                        opens_at=opens_at(week, zone),
                        deadline_at=deadline_at(week, zone, programme.grace_minutes),
                        state=what.state,
                        exempt_reason=what.reason,
                    )
                )
            week = week.shifted(1)
    return found


def _as_told(
    offerings: Iterable[Offering], made: Mapping[str, int], programme: Programme
) -> list[Offering]:
    """Return offerings that begin when Homeroom was told of them, if they began before that.

    So who is entered on a Saturday has joined on a Saturday.
    """
    return [
        replace(each, starts_on=max(each.starts_on, local_date(made[each.id], programme.zone)))
        for each in offerings
    ]


async def bring_up(tx: Tx, programme: Programme) -> int:
    """Open what should be open and close what has passed; repeatable. Returns the new rows."""
    added = await ledger.add(tx, await missing_rows(tx, programme))
    await ledger.close_passed(tx, programme.id)
    return added


async def judge_again(
    tx: Tx,
    notifications: Notifications,
    programme: Programme,
    rows: Iterable[Obligation],
) -> None:
    """Judge anew what has no log, after leave, dates or the programme have changed."""
    rules = [each.rule for each in await store.exemptions(tx, programme.id)]
    made = await store.made_at(tx, programme.id)
    known = {
        each.id: each for each in _as_told(await store.offerings(tx, programme.id), made, programme)
    }
    touched: set[tuple[str, str]] = set()
    for row in rows:
        if row.satisfied_at is not None:
            continue
        what = owed(
            known[row.offering_id],
            row.week,
            rules,
            closed_on=programme.closed_on,
            last_day_to_join=programme.last_day_to_join,
        )
        await ledger.reopen(tx, row.offering_id, row.week_key, what)
        touched.add((row.week_key, row.facilitator_id))
    await ledger.close_passed(tx, programme.id)
    for week_key, user_id in sorted(touched):
        await settle(tx, notifications, programme, week_key, user_id)
    await review(tx, notifications, programme, {user_id for _, user_id in touched})


async def settle(
    tx: Tx, notifications: Notifications, programme: Programme, week_key: str, user_id: str
) -> None:
    """Take back what asks somebody for logs of a week, once none of them is owed."""
    rows = await ledger.of_user(tx, programme.id, week_key, user_id)
    if any(row.is_owed(tx.now) for row in rows):
        return
    keys = [
        reminder_key(programme.id, week_key, user_id),
        warning_key(programme.id, week_key, user_id),
    ]
    await notifications.resolve(tx, keys)


async def review(
    tx: Tx, notifications: Notifications, programme: Programme, user_ids: Collection[str]
) -> None:
    """Take back warnings of facilitators who are below the threshold by now, without a mail."""
    warned = await ledger.warned(tx, programme.id, "9999-W99")
    mine = {user_id: weeks for user_id, weeks in warned.items() if user_id in user_ids}
    if not mine:
        return
    history = await window(tx, programme, week_at(tx.now, programme.zone))
    for case in cases(programme, history, mine, tx.now):
        if case.user_id in mine and case.verdict.news is News.RESOLVED:
            await withdraw(tx, notifications, programme, case.user_id)


async def withdraw(
    tx: Tx, notifications: Notifications, programme: Programme, user_id: str
) -> None:
    """Resolve a compliance warning with its messages."""
    week_key = await ledger.standing(tx, programme.id, user_id)
    if week_key is None:
        return
    await ledger.resolve_warning(tx, programme.id, user_id)
    recipients = {*programme.managers, user_id}
    keys = [compliance_key(programme.id, user_id, week_key, each) for each in sorted(recipients)]
    await notifications.resolve(tx, keys)


async def window(tx: Tx, programme: Programme, current: Week) -> list[Obligation]:
    """Return what was owed in the closed weeks that compliance looks at, and since."""
    weeks = closed_weeks(tx.now, programme.zone, programme.grace_minutes, WINDOW)
    return await ledger.of_programme(tx, programme.id, weeks[0].key, current.key)
