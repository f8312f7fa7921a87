"""Who gets which message: the whole decision, from rows to messages (pure).

``now`` decides what is owed, the week says what is asked for; what a message says is settled again
when it is sent, because a log may arrive in between.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from homeroom.activity.compliance import WINDOW, News, Verdict, judge, mark
from homeroom.activity.owed import State
from homeroom.activity.programme import Obligation, Programme
from homeroom.activity.week import (
    Week,
    closed_weeks,
    reminder_ends_at,
    report_ends_at,
)
from homeroom.notify.api import Message

LATE_LOG_LIFE = COMPLIANCE_LIFE = 7 * 86_400 * 1_000_000
"""For how long these are worth sending, in microseconds."""
OBLIGATIONS_CHECK, REPORT_CHECK = "activity.obligations", "activity.report"
COMPLIANCE_CHECK, LOG_CHECK = "activity.compliance", "activity.log"
Name = Callable[[str], str]
"""Return what a person is called, by their id."""


def reminder_key(programme_id: str, week_key: str, user_id: str) -> str:
    """Return what makes Monday's reminder the only one of its kind, for ever."""
    return f"log_reminder:{programme_id}:{week_key}:{user_id}"


def warning_key(programme_id: str, week_key: str, user_id: str) -> str:
    """Return what makes Thursday's warning the only one of its kind."""
    return f"deadline_warning:{programme_id}:{week_key}:{user_id}"


def report_key(programme_id: str, week_key: str, manager_id: str) -> str:
    """Return what makes Tuesday's report the only one of its kind; its week is the reported one."""
    return f"manager_report:{programme_id}:{week_key}:{manager_id}"


def compliance_key(programme_id: str, user_id: str, week_key: str, recipient_id: str) -> str:
    """Return what makes a compliance warning the only one of its kind."""
    return f"compliance:{programme_id}:{user_id}:{week_key}:{recipient_id}"


def late_log_key(log_id: str, manager_id: str) -> str:
    """Return what makes the alert of a late log the only one of its kind."""
    return f"late_log:{log_id}:{manager_id}"


def owed_params(programme: Programme, rows: Sequence[Obligation]) -> dict[str, Any]:
    """Return what a facilitator's message says: the offerings of one week, by title."""
    ordered = sorted(rows, key=lambda row: (row.offering_title, row.offering_id))
    return {
        "programme": programme.title,
        "week": ordered[0].week_key,
        "timeZone": programme.time_zone,
        "deadlineAt": min(row.deadline_at for row in ordered),
        "url": programme.log_url,
        "offerings": [{"id": row.offering_id, "title": row.offering_title} for row in ordered],
    }


def _by_facilitator(rows: Iterable[Obligation], now: int) -> dict[str, list[Obligation]]:
    found: dict[str, list[Obligation]] = {}
    for row in rows:
        if row.is_owed(now):
            found.setdefault(row.facilitator_id, []).append(row)
    return found


def _asking(
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
            params=owed_params(programme, mine),
            about={
                "check": OBLIGATIONS_CHECK,
                "programmeId": programme.id,
                "week": week.key,
                "userId": user_id,
            },
            metadata={"programmeId": programme.id, "week": week.key},
            expires_at=expires_at,
        )
        for user_id, mine in sorted(_by_facilitator(rows, now).items())
    ]


def reminders(
    programme: Programme, week: Week, rows: Iterable[Obligation], now: int
) -> list[Message]:
    """Return Monday's reminders: one a facilitator with all offerings that lack a log."""
    expires_at = reminder_ends_at(week, programme.zone)
    if programme.target_week == "previous":
        expires_at = reminder_ends_at(week.shifted(1), programme.zone)
    return _asking("log_reminder", reminder_key, programme, week, rows, now, expires_at)


def warnings(
    programme: Programme, week: Week, rows: Sequence[Obligation], now: int
) -> list[Message]:
    """Return Thursday's warnings; they are worth sending until the deadline."""
    mine = [row for row in rows if row.state is State.OPEN and now < row.deadline_at]
    if not mine:
        return []
    expires_at = max(row.deadline_at for row in mine)
    return _asking("deadline_warning", warning_key, programme, week, mine, now, expires_at)


@dataclass(frozen=True, slots=True)
class Case:
    """A facilitator who misses weeks again and again, or did until now."""

    user_id: str
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class Report:
    """Tuesday: what managers are sent, and what is to be remembered of it."""

    messages: list[Message] = field(default_factory=list)
    cases: list[Case] = field(default_factory=list)


def cases(
    programme: Programme,
    history: Iterable[Obligation],
    warned: Mapping[str, Sequence[str]],
    now: int,
) -> list[Case]:
    """Judge every facilitator by the last closed weeks; those with nothing to say are left out."""
    weeks = [
        week.key for week in closed_weeks(now, programme.zone, programme.grace_minutes, WINDOW)
    ]
    states: dict[str, dict[str, list[State]]] = {user_id: {} for user_id in warned}
    for row in history:
        if row.week_key in weeks:
            mine = states.setdefault(row.facilitator_id, {})
            mine.setdefault(row.week_key, []).append(row.now(now))
    found = []
    for user_id, mine in sorted(states.items()):
        marks = [(key, mark(mine.get(key, ()))) for key in weeks]
        verdict = judge(marks, warned.get(user_id), late_is_missed=programme.late_is_missed)
        if verdict.news is not News.NOTHING:
            found.append(Case(user_id, verdict))
    return found


def report_params(
    programme: Programme,
    week: Week,
    rows: Iterable[Obligation],
    found: Sequence[Case],
    name: Name,
    now: int,
) -> dict[str, Any]:
    """Return what Tuesday's report says of a week: who is missing, who was late, who does it again.

    An obligation whose deadline has not passed (a long grace) is not missing yet.
    """
    ordered = sorted(rows, key=lambda row: (name(row.facilitator_id), row.offering_title))

    def lines(state: State) -> list[dict[str, Any]]:
        return [
            {
                "userId": row.facilitator_id,
                "name": name(row.facilitator_id),
                "offering": row.offering_title,
                "submittedAt": row.satisfied_at,
            }
            for row in ordered
            if row.now(now) is state
        ]

    return {
        "programme": programme.title,
        "week": week.key,
        "timeZone": programme.time_zone,
        "missing": lines(State.MISSED),
        "late": lines(State.LATE),
        "compliance": [
            {
                "userId": case.user_id,
                "name": name(case.user_id),
                "missed": list(case.verdict.missed),
                "continuing": case.verdict.news is News.CONTINUING,
            }
            for case in found
            if case.verdict.news in (News.WARN, News.CONTINUING)
        ],
    }


def is_empty(params: Mapping[str, Any]) -> bool:
    """Say whether a report has nothing to report."""
    return not (params["missing"] or params["late"] or params["compliance"])


def report(
    programme: Programme,
    week: Week,
    history: Sequence[Obligation],
    warned: Mapping[str, Sequence[str]],
    name: Name,
    now: int,
) -> Report:
    """Return Tuesday's messages on the week that has ended, and what became of each case.

    ``history`` holds the obligations of that week and of the closed weeks before it. Without
    managers there is no message: the caller tells somebody else.
    """
    expires_at = report_ends_at(week, programme.zone)
    if programme.is_closed(now) or expires_at <= now:
        return Report()
    found = cases(programme, history, warned, now)
    rows = [row for row in history if row.week_key == week.key]
    params = report_params(programme, week, rows, found, name, now)
    messages: list[Message] = []
    metadata = {"programmeId": programme.id, "week": week.key}
    if programme.all_clear or not is_empty(params):
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
    for case in found:
        if case.verdict.news is News.WARN:
            messages += _compliance(programme, week, case, name, now)
    return Report(messages, found)


def _compliance(
    programme: Programme, week: Week, case: Case, name: Name, now: int
) -> list[Message]:
    params = {
        "programme": programme.title,
        "week": week.key,
        "userId": case.user_id,
        "name": name(case.user_id),
        "missed": list(case.verdict.missed),
        "expected": case.verdict.expected,
    }
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
            expires_at=now + COMPLIANCE_LIFE,
        )
        for type, recipient in recipients
    ]


def late_log(
    programme: Programme, row: Obligation, log_id: str, name: Name, now: int
) -> list[Message]:
    """Return the alerts of a log that came at its deadline or after, one a manager.

    Several within ten minutes go out as one mail: the first at once, the rest together.
    """
    if programme.is_closed(now):
        return []
    return [
        Message(
            key=late_log_key(log_id, manager_id),
            type="late_log",
            user_id=manager_id,
            params={
                "programme": programme.title,
                "week": row.week_key,
                "timeZone": programme.time_zone,
                "userId": row.facilitator_id,
                "name": name(row.facilitator_id),
                "offering": row.offering_title,
                "submittedAt": row.satisfied_at,
                "deadlineAt": row.deadline_at,
            },
            about={"check": LOG_CHECK, "logId": log_id},
            metadata={"programmeId": programme.id, "week": row.week_key, "logId": log_id},
            expires_at=now + LATE_LOG_LIFE,
            group=f"late_log:{programme.id}:{manager_id}",
        )
        for manager_id in programme.managers
    ]
