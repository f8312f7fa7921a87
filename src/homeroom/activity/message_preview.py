"""Content of messages for a preview, from the current data of a programme."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from homeroom.activity import obligation_store
from homeroom.activity.fanout import build_week_report, load_names
from homeroom.activity.obligation_rules import (
    COMPLIANCE_WEEKS,
    Obligation,
    ObligationState,
    Programme,
    Week,
    week_at,
)
from homeroom.activity.obligation_update import (
    list_compliance_history,
    list_down_weeks,
    missing_obligations,
)
from homeroom.activity.recipient_selection import (
    build_compliance_params,
    build_late_log_params,
    build_obligation_params,
    find_compliance_cases,
)
from homeroom.db.tx import Tx
from homeroom.errors import NotFound

_WEEKS_SEARCHED = 26
_EXAMPLE_HINT = "Without --programme and --user, the preview has example data."


async def build_preview_params(
    tx: Tx, programme: Programme, type: str, user_id: str
) -> Mapping[str, Any]:
    """Return the content that a message of a type would have for a person now.

    Reminders and warnings list the logs that are missing or, if none is, all of the week. Reports
    are about the last week; a late log is the newest one. Raises ``NotFound`` where the programme
    has no data of that kind.
    """
    current = week_at(tx.now, programme.zone)
    if type in ("log_reminder", "deadline_warning"):
        is_previous = type == "log_reminder" and programme.target_week == "previous"
        return await _preview_obligations(
            tx, programme, current.shifted(-1) if is_previous else current, user_id
        )
    if type in ("manager_report", "unmanaged_programme"):
        return await build_week_report(tx, programme, current.shifted(-1))
    if type == "late_log":
        return await _preview_late_log(tx, programme, current)
    if type in ("compliance_warning", "compliance_copy"):
        return await _preview_compliance(
            tx, programme, current, user_id if type == "compliance_copy" else None
        )
    raise NotFound(f"A message {type} is not about a programme.", hint=_EXAMPLE_HINT)


async def _preview_obligations(
    tx: Tx, programme: Programme, week: Week, user_id: str
) -> Mapping[str, Any]:
    rows = await obligation_store.list_facilitator_obligations(tx, programme.id, week.key, user_id)
    rows += [
        row
        for row in await missing_obligations(tx, programme)
        if row.week_key == week.key and row.facilitator_id == user_id
    ]
    if not rows:
        raise NotFound(
            f"{user_id!r} facilitates no offering of {programme.id!r} in {week.key}.",
            hint=_EXAMPLE_HINT,
        )
    outstanding: Sequence[Obligation] = [row for row in rows if row.is_outstanding(tx.now)]
    return build_obligation_params(programme, outstanding or rows)


async def _preview_late_log(tx: Tx, programme: Programme, current: Week) -> Mapping[str, Any]:
    first = current.shifted(-_WEEKS_SEARCHED)
    rows = await obligation_store.list_obligations(tx, programme.id, first.key, current.key)
    late = [row for row in rows if row.state is ObligationState.LATE]
    if not late:
        raise NotFound(
            f"No log of {programme.id!r} was late in the last {_WEEKS_SEARCHED} weeks.",
            hint=_EXAMPLE_HINT,
        )
    newest = max(late, key=lambda row: (row.satisfied_at or 0, row.offering_id))
    return build_late_log_params(programme, newest, await load_names(tx, [newest.facilitator_id]))


async def _preview_compliance(
    tx: Tx, programme: Programme, current: Week, user_id: str | None
) -> Mapping[str, Any]:
    history = await list_compliance_history(tx, programme, current)
    down_weeks = await list_down_weeks(tx, programme, history)
    cases = [
        case
        for case in find_compliance_cases(programme, history, {}, tx.now, down_weeks)
        if user_id in (None, case.user_id)
    ]
    if not cases:
        whose = "No facilitator" if user_id is None else repr(user_id)
        raise NotFound(
            f"{whose} repeatedly missed logs of {programme.id!r} in the last"
            f" {COMPLIANCE_WEEKS} closed weeks.",
            hint=_EXAMPLE_HINT,
        )
    name = await load_names(tx, [cases[0].user_id])
    return build_compliance_params(programme, current.shifted(-1), cases[0], name)
