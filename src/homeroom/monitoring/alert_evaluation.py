"""Evaluation of alerts: raise, keep and clear them by figures (pure).

Instants and spans are microseconds UTC, figures thousandths of the rule's unit.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from homeroom.instant import SECOND
from homeroom.monitoring.alert_rules import NO_WORKER, AlertRule

AlertState = Literal["pending", "open", "cleared"]
ChangeKind = Literal["pending", "forgotten", "raised", "reopened", "reminded", "kept", "cleared"]
REOPEN_WITHIN = 3_600 * SECOND
"""An alert that is raised again so soon after it was cleared is the same one, without a message."""
REFRESH = 60 * SECOND
"""Interval at which the figure of an open alert is stored."""


@dataclass(frozen=True, slots=True)
class Reading:
    """A figure that a rule is about."""

    kind: str
    subject: str
    value: int
    """Thousandths of the rule's unit."""
    detail: str | None = None
    since: int | None = None
    """The instant from which the figure is known to have been so; None: now."""
    group: str | None = None
    """The cause that it shares with other readings, such as a partner that is away."""


@dataclass(frozen=True, slots=True)
class Figures:
    """All figures of one evaluation."""

    readings: Sequence[Reading]
    unread: Collection[str] = ()
    """Kinds whose figures could not be read: their alerts stay as they are."""


@dataclass(frozen=True, slots=True)
class Alert:
    """An alert about one subject of one rule, as its row states."""

    id: str
    open_key: str | None
    """Unique: two processes never raise one alert twice. None once it is cleared."""
    rule: str
    subject: str
    group_name: str
    severity: str
    state: AlertState
    value: int
    threshold: int
    detail: str | None
    since: int
    quiet_since: int | None
    """The instant from which the condition no longer holds."""
    raised_at: int | None
    raised_count: int
    cleared_at: int | None
    updated_at: int
    message: str | None = None
    """The key of the message that told of it."""
    acknowledged_at: int | None = None
    acknowledged_by: str | None = None
    acknowledged_why: str | None = None
    snoozed_until: int | None = None
    snoozed_by: str | None = None


@dataclass(frozen=True, slots=True)
class AlertChange:
    """An alert as it is to be stored; a forgotten one is deleted."""

    kind: ChangeKind
    alert: Alert
    notifies: bool = False


def open_key(rule: str, subject: str) -> str:
    """Return the unique key of an alert that is not cleared."""
    return f"{rule}|{subject}"


def plan_changes(
    rules: Mapping[str, AlertRule],
    figures: Figures,
    alerts: Iterable[Alert],
    now: int,
    observed_from: int,
    new_id: Callable[[], str],
) -> list[AlertChange]:
    """Return what changes in the alerts by the figures.

    ``alerts`` are those that are not cleared, and those cleared within ``REOPEN_WITHIN``. Nothing
    was observed before ``observed_from``, so no condition is taken to have held before it.
    """
    known = list(alerts)
    current = {alert.open_key: alert for alert in known if alert.open_key is not None}
    cleared = {(each.rule, each.subject): each for each in known if each.state == "cleared"}
    holding = {
        open_key(each.kind, each.subject): each
        for each in figures.readings
        if each.kind in rules and rules[each.kind].enabled and rules[each.kind].holds(each.value)
    }
    without_worker = any(reading.kind == NO_WORKER for reading in holding.values())
    changes: list[AlertChange] = []
    for key, reading in holding.items():
        rule, alert = rules[reading.kind], current.get(key)
        group = reading.group or (
            NO_WORKER if without_worker and rule.follows_no_worker else rule.kind
        )
        if alert is None:
            since = min(max(reading.since or now, observed_from), now)
            alert = _new_alert(new_id(), rule, reading, group, since, now)
            changes += _raise_if_due(
                alert, rule, cleared.get((rule.kind, reading.subject)), now, is_new=True
            )
        elif alert.state == "pending":
            fresh = replace(_with_reading(alert, rule, reading, now), group_name=group)
            changes += _raise_if_due(
                fresh, rule, cleared.get((rule.kind, reading.subject)), now, is_new=False
            )
        else:
            changes += _keep(alert, rule, reading, now)
    for key, alert in current.items():
        if key not in holding:
            rule_of = rules.get(alert.rule)
            is_judged = rule_of is None or not rule_of.enabled or alert.rule not in figures.unread
            changes += _quiet(alert, rule_of, now) if is_judged else ()
    return changes


def _new_alert(
    id: str, rule: AlertRule, reading: Reading, group: str, since: int, now: int
) -> Alert:
    return Alert(
        id=id,
        open_key=open_key(rule.kind, reading.subject),
        rule=rule.kind,
        subject=reading.subject,
        group_name=group,
        severity=rule.severity,
        state="pending",
        value=reading.value,
        threshold=rule.threshold,
        detail=reading.detail,
        since=since,
        quiet_since=None,
        raised_at=None,
        raised_count=0,
        cleared_at=None,
        updated_at=now,
    )


def _with_reading(alert: Alert, rule: AlertRule, reading: Reading, now: int) -> Alert:
    return replace(
        alert,
        value=reading.value,
        detail=reading.detail,
        threshold=rule.threshold,
        severity=rule.severity,
        updated_at=now,
    )


def _raise_if_due(
    alert: Alert, rule: AlertRule, cleared: Alert | None, now: int, *, is_new: bool
) -> Iterator[AlertChange]:
    if now - alert.since < rule.for_seconds * SECOND:
        if is_new:
            yield AlertChange("pending", alert)
        return
    if cleared is None or now - (cleared.cleared_at or 0) > REOPEN_WITHIN:
        raised = replace(alert, state="open", raised_at=now, raised_count=1)
        yield AlertChange("raised", raised, notifies=rule.notifies)
        return
    if not is_new:
        yield AlertChange("forgotten", alert)
    yield AlertChange(
        "reopened",
        replace(
            cleared,
            open_key=alert.open_key,
            state="open",
            value=alert.value,
            detail=alert.detail,
            threshold=alert.threshold,
            severity=alert.severity,
            quiet_since=None,
            cleared_at=None,
            raised_count=cleared.raised_count + 1,
            updated_at=now,
        ),
    )


def _keep(alert: Alert, rule: AlertRule, reading: Reading, now: int) -> Iterator[AlertChange]:
    """Yield the change of an open alert whose condition holds."""
    fresh = replace(_with_reading(alert, rule, reading, now), quiet_since=None)
    if alert.snoozed_until is not None and alert.snoozed_until <= now:
        reminds = rule.notifies and alert.acknowledged_at is None
        yield AlertChange("reminded", replace(fresh, snoozed_until=None), notifies=reminds)
        return
    is_stale = now - alert.updated_at >= REFRESH
    has_changed = replace(fresh, updated_at=alert.updated_at) != alert
    if alert.quiet_since is not None or (is_stale and has_changed):
        yield AlertChange("kept", fresh)


def _quiet(alert: Alert, rule: AlertRule | None, now: int) -> Iterator[AlertChange]:
    """Yield the change of an alert whose condition does not hold."""
    if alert.state == "pending":
        yield AlertChange("forgotten", alert)
        return
    quiet_since = now if alert.quiet_since is None else alert.quiet_since
    span = 0 if rule is None or not rule.enabled else rule.clear_seconds * SECOND
    if now - quiet_since >= span:
        ended = replace(alert, open_key=None, state="cleared", quiet_since=quiet_since)
        yield AlertChange("cleared", replace(ended, cleared_at=now, updated_at=now))
    elif alert.quiet_since is None:
        yield AlertChange("kept", replace(alert, quiet_since=now, updated_at=now))


def messages_of(changes: Iterable[AlertChange], alerts: Iterable[Alert]) -> list[tuple[Alert, ...]]:
    """Return the alerts that need a message, by their groups.

    ``alerts`` are those before the changes. A group of which an alert is open already has had its
    message: an outage is reported once.
    """
    told = {alert.group_name for alert in alerts if alert.state == "open"}
    by_group: dict[str, list[Alert]] = {}
    for change in changes:
        if not change.notifies:
            continue
        if change.kind == "reminded" or change.alert.group_name not in told:
            by_group.setdefault(change.alert.group_name, []).append(change.alert)
    return [tuple(found) for found in by_group.values()]
