"""Selection of recipients and messages from obligations (pure).

A message's content is built again when it is sent, because a log may arrive in between.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from homeroom.activity.downtime_rules import is_hand_in_open
from homeroom.activity.obligation_rules import (
    COMPLIANCE_WEEKS,
    SATISFIED_STATES,
    ComplianceResult,
    Obligation,
    ObligationState,
    Programme,
    WarningChange,
    Week,
    closed_weeks,
    evaluate_compliance,
    mark_week,
    reminder_expires_at,
    report_expires_at,
)
from homeroom.notify.api import Message

LATE_LOG_TTL_US = COMPLIANCE_WARNING_TTL_US = 7 * 86_400 * 1_000_000
"""Microseconds after which these expire."""
OBLIGATIONS_CHECK, REPORT_CHECK = "activity.obligations", "activity.report"
COMPLIANCE_CHECK, LOG_CHECK = "activity.compliance", "activity.log"
NameLookup = Callable[[str], str]
"""Returns a person's name by their id."""


def reminder_key(programme_id: str, week_key: str, user_id: str) -> str:
    """Return the unique key of Monday's reminder."""
    return f"log_reminder:{programme_id}:{week_key}:{user_id}"


def warning_key(programme_id: str, week_key: str, user_id: str) -> str:
    """Return the unique key of Thursday's warning."""
    return f"deadline_warning:{programme_id}:{week_key}:{user_id}"


def report_key(programme_id: str, week_key: str, manager_id: str) -> str:
    """Return the unique key of Tuesday's report; its week is the reported one."""
    return f"manager_report:{programme_id}:{week_key}:{manager_id}"


def compliance_key(programme_id: str, user_id: str, week_key: str, recipient_id: str) -> str:
    """Return the unique key of a compliance warning."""
    return f"compliance:{programme_id}:{user_id}:{week_key}:{recipient_id}"


def late_log_key(log_id: str, manager_id: str) -> str:
    """Return the unique key of the alert of a late log."""
    return f"late_log:{log_id}:{manager_id}"


def build_obligation_params(programme: Programme, rows: Sequence[Obligation]) -> dict[str, Any]:
    """Return the content of a facilitator's message: a week's offerings by title."""
    ordered = sorted(rows, key=lambda row: (row.offering_title, row.offering_id))
    return {
        "programme": programme.title,
        "programmeId": programme.id,
        "week": ordered[0].week_key,
        "timeZone": programme.time_zone,
        "deadlineAt": min(row.deadline_at for row in ordered),
        "url": programme.log_url,
        "offerings": [{"id": row.offering_id, "title": row.offering_title} for row in ordered],
    }


def _by_facilitator(rows: Iterable[Obligation], now: int) -> dict[str, list[Obligation]]:
    by_facilitator: dict[str, list[Obligation]] = {}
    for row in rows:
        if row.is_outstanding(now):
            by_facilitator.setdefault(row.facilitator_id, []).append(row)
    return by_facilitator


def _build_obligation_messages(
    type: str,
    key: Callable[[str, str, str], str],
    programme: Programme,
    week: Week,
    rows: Iterable[Obligation],
    now: int,
    expires_at: int,
) -> list[Message]:
    if programme.is_closed(now) or expires_at <= now:
        return []
    return [
        Message(
            key=key(programme.id, week.key, user_id),
            type=type,
            user_id=user_id,
            params=build_obligation_params(programme, own_rows),
            about={
                "check": OBLIGATIONS_CHECK,
                "programmeId": programme.id,
                "week": week.key,
                "userId": user_id,
            },
            metadata={"programmeId": programme.id, "week": week.key},
            expires_at=expires_at,
        )
        for user_id, own_rows in sorted(_by_facilitator(rows, now).items())
    ]


def build_reminders(
    programme: Programme, week: Week, rows: Iterable[Obligation], now: int
) -> list[Message]:
    """Return Monday's reminders: one a facilitator, with all missing logs."""
    expires_at = reminder_end_of(programme, week)
    return _build_obligation_messages(
        "log_reminder", reminder_key, programme, week, rows, now, expires_at
    )


def reminder_end_of(programme: Programme, week: Week) -> int:
    """Return the instant at which reminders of a week expire, in microseconds UTC."""
    sent_in = week.shifted(1) if programme.target_week == "previous" else week
    return reminder_expires_at(sent_in, programme.zone)


def describe_skip(row: Obligation, programme: Programme, now: int, is_too_late: bool) -> str:
    """Return why a run sends its message to no one for an obligation."""
    if programme.is_closed(now):
        return "the programme is closed"
    state = row.state_at(now)
    if row.is_outstanding(now):
        if is_too_late:
            return "too late: the message would have expired"
        return "not time yet: the message is due later in the person's own time zone"
    return state.value if row.exempt_reason is None else f"{state.value}: {row.exempt_reason}"


def build_deadline_warnings(
    programme: Programme, week: Week, rows: Sequence[Obligation], now: int
) -> list[Message]:
    """Return Thursday's warnings; they expire at the deadline."""
    open_rows = [row for row in rows if row.state is ObligationState.OPEN and now < row.deadline_at]
    if not open_rows:
        return []
    expires_at = max(row.deadline_at for row in open_rows)
    return _build_obligation_messages(
        "deadline_warning", warning_key, programme, week, open_rows, now, expires_at
    )


@dataclass(frozen=True, slots=True)
class ComplianceCase:
    """A facilitator with repeatedly missed weeks, now or until now."""

    user_id: str
    result: ComplianceResult


@dataclass(frozen=True, slots=True)
class ManagerReport:
    """Tuesday's messages to managers, with the compliance cases to record."""

    messages: list[Message] = field(default_factory=list)
    cases: list[ComplianceCase] = field(default_factory=list)


def find_compliance_cases(
    programme: Programme,
    history: Iterable[Obligation],
    warned: Mapping[str, Sequence[str]],
    now: int,
    down_weeks: Mapping[str, int],
) -> list[ComplianceCase]:
    """Return the facilitators whose last closed weeks call for a change.

    ``down_weeks`` are those in which Homeroom was down (``downtime_rules.find_down_weeks``).
    """
    weeks = [
        week.key
        for week in closed_weeks(now, programme.zone, programme.grace_minutes, COMPLIANCE_WEEKS)
    ]
    states: dict[str, dict[str, list[ObligationState]]] = {user_id: {} for user_id in warned}
    for row in history:
        if row.week_key in weeks:
            states_by_week = states.setdefault(row.facilitator_id, {})
            states_by_week.setdefault(row.week_key, []).append(row.state_at(now))
    cases = []
    for user_id, states_by_week in sorted(states.items()):
        marks = [
            (key, mark_week(states_by_week.get(key, ()), was_down=key in down_weeks))
            for key in weeks
        ]
        result = evaluate_compliance(
            marks, warned.get(user_id), late_is_missed=programme.late_is_missed
        )
        if result.warning_change is not WarningChange.NOTHING:
            cases.append(ComplianceCase(user_id, result))
    return cases


def build_report_params(
    programme: Programme,
    week: Week,
    history: Sequence[Obligation],
    cases: Sequence[ComplianceCase],
    name: NameLookup,
    now: int,
    down_weeks: Mapping[str, int],
) -> dict[str, Any]:
    """Return the content of Tuesday's report on a week.

    ``history`` holds the obligations of the week, and those of the week before for the comparison.
    An obligation whose deadline has not passed (a long grace, or an extension after a downtime) is
    not missing yet.
    """
    rows = [row for row in history if row.week_key == week.key]
    ordered = sorted(rows, key=lambda row: (name(row.facilitator_id), row.offering_title))
    previous = _compare_with_week_before(week, history, name, now, down_weeks)
    missing_before = {
        row.offering_id
        for row in history
        if previous is not None
        and row.week_key == previous["week"]
        and row.state_at(now) is ObligationState.MISSED
    }

    def lines(state: ObligationState) -> list[dict[str, Any]]:
        return [
            {
                "userId": row.facilitator_id,
                "name": name(row.facilitator_id),
                "offering": row.offering_title,
                "submittedAt": row.satisfied_at,
                "alsoBefore": row.offering_id in missing_before,
            }
            for row in ordered
            if row.state_at(now) is state
        ]

    return {
        "programme": programme.title,
        "programmeId": programme.id,
        "week": week.key,
        "timeZone": programme.time_zone,
        "down": week.key in down_weeks,
        **_count_logs(rows, now),
        "previous": previous,
        "missing": []
        if is_hand_in_open(week.key, down_weeks, now)
        else lines(ObligationState.MISSED),
        "late": lines(ObligationState.LATE),
        "compliance": [
            {
                "userId": case.user_id,
                "name": name(case.user_id),
                "missed": list(case.result.missed),
                "continuing": case.result.warning_change is WarningChange.CONTINUING,
            }
            for case in cases
            if case.result.warning_change in (WarningChange.WARN, WarningChange.CONTINUING)
        ],
    }


def _count_logs(rows: Iterable[Obligation], now: int) -> dict[str, int]:
    """Return the numbers of a week's logs: expected and handed in."""
    states = [row.state_at(now) for row in rows]
    handed_in = sum(state in SATISFIED_STATES for state in states)
    exempt = states.count(ObligationState.EXEMPT)
    return {"expected": len(states) - exempt, "handedIn": handed_in}


def _compare_with_week_before(
    week: Week,
    history: Sequence[Obligation],
    name: NameLookup,
    now: int,
    down_weeks: Mapping[str, int],
) -> dict[str, Any] | None:
    """Return the counts of the week before, and who misses a log in one week only.

    None where no log was expected in the week before, or Homeroom was down in one of the weeks.
    """
    before = week.shifted(-1)
    rows = [row for row in history if row.week_key == before.key]
    counts = _count_logs(rows, now)
    if not counts["expected"] or {week.key, before.key} & down_weeks.keys():
        return None

    def missing_in(key: str) -> set[str]:
        return {
            row.facilitator_id
            for row in history
            if row.week_key == key and row.state_at(now) is ObligationState.MISSED
        }

    def people(user_ids: set[str]) -> list[dict[str, str]]:
        found = [{"userId": user_id, "name": name(user_id)} for user_id in user_ids]
        return sorted(found, key=lambda each: (each["name"], each["userId"]))

    now_missing, missing_before = missing_in(week.key), missing_in(before.key)
    return {
        "week": before.key,
        **counts,
        "newlyMissing": people(now_missing - missing_before),
        "noLongerMissing": people(missing_before - now_missing),
    }


def is_report_empty(params: Mapping[str, Any]) -> bool:
    """Return whether a report has no entry."""
    return not (params["missing"] or params["late"] or params["compliance"])


def build_manager_report(
    programme: Programme,
    week: Week,
    history: Sequence[Obligation],
    warned: Mapping[str, Sequence[str]],
    name: NameLookup,
    now: int,
    down_weeks: Mapping[str, int],
) -> ManagerReport:
    """Return Tuesday's messages on the week that has ended, and the compliance cases.

    ``history`` holds the obligations of that week and of the closed weeks before it. Without
    managers there is no message: the caller notifies the admins.
    """
    expires_at = report_expires_at(week, programme.zone)
    if programme.is_closed(now) or expires_at <= now:
        return ManagerReport()
    cases = find_compliance_cases(programme, history, warned, now, down_weeks)
    params = build_report_params(programme, week, history, cases, name, now, down_weeks)
    messages: list[Message] = []
    metadata = {"programmeId": programme.id, "week": week.key}
    if programme.all_clear or not is_report_empty(params):
        about = {"check": REPORT_CHECK, "programmeId": programme.id, "week": week.key}
        messages += [
            Message(
                key=report_key(programme.id, week.key, manager_id),
                type="manager_report",
                user_id=manager_id,
                params=params,
                about=about,
                metadata=metadata,
                expires_at=expires_at,
            )
            for manager_id in programme.managers
        ]
    for case in cases:
        if case.result.warning_change is WarningChange.WARN:
            messages += _build_compliance_warnings(programme, week, case, name, now)
    return ManagerReport(messages, cases)


def build_compliance_params(
    programme: Programme, week: Week, case: ComplianceCase, name: NameLookup
) -> dict[str, Any]:
    """Return the content of a compliance warning and of its copy."""
    return {
        "programme": programme.title,
        "programmeId": programme.id,
        "week": week.key,
        "userId": case.user_id,
        "name": name(case.user_id),
        "missed": list(case.result.missed),
        "expected": case.result.expected,
    }


def _build_compliance_warnings(
    programme: Programme, week: Week, case: ComplianceCase, name: NameLookup, now: int
) -> list[Message]:
    params = build_compliance_params(programme, week, case, name)
    about = {
        "check": COMPLIANCE_CHECK,
        "programmeId": programme.id,
        "week": week.key,
        "userId": case.user_id,
    }
    copies = [case.user_id] if programme.copy_facilitator and programme.managers else []
    recipients = [("compliance_warning", manager_id) for manager_id in programme.managers]
    recipients += [
        ("compliance_copy", user_id) for user_id in copies if user_id not in programme.managers
    ]
    return [
        Message(
            key=compliance_key(programme.id, case.user_id, week.key, recipient),
            type=type,
            user_id=recipient,
            params=params,
            about=about,
            metadata={"programmeId": programme.id, "week": week.key},
            expires_at=now + COMPLIANCE_WARNING_TTL_US,
        )
        for type, recipient in recipients
    ]


def build_late_log_params(
    programme: Programme, row: Obligation, name: NameLookup
) -> dict[str, Any]:
    """Return the content of the alert of a late log."""
    return {
        "programme": programme.title,
        "programmeId": programme.id,
        "week": row.week_key,
        "timeZone": programme.time_zone,
        "userId": row.facilitator_id,
        "name": name(row.facilitator_id),
        "offering": row.offering_title,
        "submittedAt": row.satisfied_at,
        "deadlineAt": row.deadline_at,
    }


def build_late_log_alerts(
    programme: Programme, row: Obligation, log_id: str, name: NameLookup, now: int
) -> list[Message]:
    """Return the alerts of a log received at its deadline or after, one a manager.

    Several within ten minutes are mailed together: the first at once, the rest as one mail.
    """
    if programme.is_closed(now):
        return []
    params = build_late_log_params(programme, row, name)
    return [
        Message(
            key=late_log_key(log_id, manager_id),
            type="late_log",
            user_id=manager_id,
            params=params,
            about={"check": LOG_CHECK, "logId": log_id},
            metadata={"programmeId": programme.id, "week": row.week_key, "logId": log_id},
            expires_at=now + LATE_LOG_TTL_US,
            group=f"late_log:{programme.id}:{manager_id}",
        )
        for manager_id in programme.managers
    ]
