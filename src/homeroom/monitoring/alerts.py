"""Alerts: evaluated, listed, acknowledged, snoozed, and sent to operators."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import structlog

from homeroom.access import api as access
from homeroom.db.database import Database
from homeroom.db.ids import new_id
from homeroom.db.tx import Tx
from homeroom.errors import Conflict, Invalid, NotFound, StorageFull, StorageReadOnly
from homeroom.instant import SECOND, to_rfc3339
from homeroom.monitoring import alert_store
from homeroom.monitoring.alert_evaluation import (
    Alert,
    AlertChange,
    Figures,
    messages_of,
    plan_changes,
)
from homeroom.monitoring.alert_rules import (
    DEFAULT_RULES,
    NO_WORKER,
    THOUSAND,
    AlertRule,
    RuleChange,
    change_rule,
    check_changes,
)
from homeroom.monitoring.held_alerts import HeldAlerts, raised_late
from homeroom.notify.api import Message, Notifications, Recipient
from homeroom.people import api as people

log = structlog.get_logger(__name__)
TOPIC = "alerts"
OPERATOR_ROLES = ("admin", "operator")
MESSAGE_TYPE = "alert"
MAX_SNOOZE_SECONDS = 7 * 86_400
_HOLDING_MAILS_BACK = frozenset({NO_WORKER, "mail_server"})
_LOCK = "monitoring.alerts"
_LOGGED = frozenset({"raised", "reopened", "cleared"})
_STATES: Mapping[str, tuple[str, ...]] = {
    "open": ("open",),
    "cleared": ("cleared",),
    "all": ("open", "cleared"),
}


class Alerts:
    """The alerts and their rules; ``bootstrap`` builds it."""

    def __init__(
        self,
        db: Database,
        notifications: Notifications,
        *,
        console_url: str,
        addresses: Sequence[str] = (),
    ) -> None:
        """Send messages to people with the role operator or admin, and to ``addresses``.

        ``console_url`` is the page of alerts, which messages link to.
        """
        self._db, self._notifications = db, notifications
        self._console_url, self._addresses = console_url, tuple(addresses)
        self._held = HeldAlerts()
        notifications.checks.add(MESSAGE_TYPE, self._still_open)

    async def evaluate(self, figures: Figures, observed_from: int) -> list[AlertChange]:
        """Raise, keep and clear alerts by what was read; return the changes.

        Nothing is written where nothing changes. Two processes that evaluate at once raise an alert
        once: the second one sees what the first has stored. Where nothing can be stored, as on a
        full disk, alerts are held in memory and stored later.
        """
        async with self._db.read() as tx:
            changes = await self._plan(tx, figures, observed_from, self._held)
        if not changes and not self._held:
            return []
        try:
            return await self._evaluate_stored(figures, observed_from)
        except (StorageFull, StorageReadOnly):
            self._held.apply(changes)
            return changes

    async def _evaluate_stored(self, figures: Figures, observed_from: int) -> list[AlertChange]:
        async with self._db.write() as tx:
            await tx.lock(_LOCK)
            before = await alert_store.list_current(tx)
            late = self._held.not_among(before)
            for alert in late:
                await alert_store.save_alert(tx, alert)
            planned = await self._plan(tx, figures, observed_from)
            changes = [*raised_late(late, planned, DEFAULT_RULES), *planned]
            messages = messages_of(changes, before)
            keys = {alert.id: _message_id(told[0]) for told in messages for alert in told}
            for change in changes:
                await self._store(tx, change, keys.get(change.alert.id))
            for told in messages:
                await self._send(tx, told)
        self._held.release()
        return changes

    def release_held(self) -> None:
        """Forget what could not be stored, as another process evaluates and stores it."""
        self._held.release()

    async def _plan(
        self, tx: Tx, figures: Figures, observed_from: int, held: HeldAlerts | None = None
    ) -> list[AlertChange]:
        rules, alerts = await alert_store.load_rules(tx), await alert_store.list_current(tx)
        known = alerts if held is None else held.merge(alerts)
        return plan_changes(rules, figures, known, tx.now, observed_from, new_id)

    async def _store(self, tx: Tx, change: AlertChange, message: str | None) -> None:
        alert = change.alert
        if change.kind == "forgotten":
            await alert_store.delete_alert(tx, alert.id)
            return
        if message is not None:
            alert = replace(alert, message=message)
        await alert_store.save_alert(tx, alert)
        if change.kind == "pending":
            return
        tx.notify(TOPIC, alert.id)
        if change.kind == "cleared":
            await self._resolve_message(tx, alert)
        if change.kind in _LOGGED:
            tx.after_commit(partial(_log_change, change.kind, alert))

    async def _resolve_message(self, tx: Tx, alert: Alert) -> None:
        """Mark the message of an alert as resolved once all that it told of is over."""
        if alert.message is None or await alert_store.count_open_of_message(tx, alert.message):
            return
        keys = [_message_key(alert.message, each) for each in await self._recipients(tx)]
        rules = await alert_store.rules_of_message(tx, alert.message)
        cancels = not rules & _HOLDING_MAILS_BACK
        await self._notifications.resolve(tx, keys, cancels=cancels)

    async def _send(self, tx: Tx, alerts: Sequence[Alert]) -> None:
        params = {
            "alerts": [_message_fields(alert) for alert in alerts],
            "raisedAt": max(alert.raised_at or tx.now for alert in alerts),
            "url": self._console_url,
        }
        first = alerts[0]
        about = {"check": MESSAGE_TYPE, "alertIds": [alert.id for alert in alerts]}
        recipients = await self._recipients(tx)
        if not recipients:
            tx.after_commit(partial(log.warning, "alert_without_recipient", alert_id=first.id))
        await self._notifications.send(
            tx,
            [
                Message(
                    key=_message_key(_message_id(first), user_id),
                    type=MESSAGE_TYPE,
                    user_id=user_id,
                    params=params,
                    about=about,
                    metadata={"alertIds": about["alertIds"]},
                    recipient=recipient,
                )
                for user_id, recipient in recipients.items()
            ],
        )

    async def _recipients(self, tx: Tx) -> dict[str, Recipient | None]:
        """Return the operators by id; None stands for the entry of the directory.

        An address of the settings that a person of the directory has gets no second message.
        """
        found = [
            person for role in OPERATOR_ROLES for person in await people.list_with_role(tx, role)
        ]
        known = {person.email.lower() for person in found if person.email}
        recipients: dict[str, Recipient | None] = {person.id: None for person in found}
        for address in self._addresses:
            if address.lower() not in known:
                recipients[address] = Recipient(address, None)
        return recipients

    async def _still_open(
        self, tx: Tx, about: Mapping[str, Any], params: Mapping[str, Any]
    ) -> Mapping[str, Any] | None:
        """Return the parameters of a message while one of its alerts is open.

        A mail about what holds mails back can be sent only once that is over, so it says so.
        """
        found = await alert_store.find_alerts(tx, list(about.get("alertIds", ())))
        if any(alert.state == "open" for alert in found):
            return params
        if not any(alert.rule in _HOLDING_MAILS_BACK for alert in found):
            return None
        return {**params, "alerts": [_ended_fields(alert, tx.now) for alert in found]}

    async def list_alerts(self, tx: Tx, state: str, before: str | None, limit: int) -> list[Alert]:
        """Return alerts, the newest first; ``state`` is open, cleared or all.

        The first page begins with those that this process could not store.
        """
        found = await alert_store.list_alerts(tx, _STATES[state], before, limit)
        if not self._held or before is not None or state == "cleared":
            return found
        held = self._held.open_alerts()
        ids = {alert.id for alert in held}
        return [*held, *(alert for alert in found if alert.id not in ids)][:limit]

    async def acknowledge(self, id: str, actor: str, why: str | None) -> Alert:
        """Record that an operator deals with an alert; raise ``NotFound``, ``Conflict``."""
        async with self._db.write() as tx:
            alert = await self._get_open(tx, id)
            alert = replace(
                alert, acknowledged_at=tx.now, acknowledged_by=actor, acknowledged_why=why
            )
            await alert_store.save_alert(tx, alert)
            await access.record_audit(tx, actor, "alert.acknowledged", id, _audit(alert, why))
            tx.notify(TOPIC, id)
        return alert

    async def snooze(self, id: str, actor: str, seconds: int, why: str | None) -> Alert:
        """Silence an open alert for a time; then it is sent again if it is open."""
        if not 60 <= seconds <= MAX_SNOOZE_SECONDS:
            raise Invalid(
                f"An alert is snoozed for 60 seconds to {MAX_SNOOZE_SECONDS // 86_400} days."
            )
        async with self._db.write() as tx:
            alert = await self._get_open(tx, id)
            until = tx.now + seconds * SECOND
            alert = replace(alert, snoozed_until=until, snoozed_by=actor)
            await alert_store.save_alert(tx, alert)
            details = {**_audit(alert, why), "seconds": seconds}
            await access.record_audit(tx, actor, "alert.snoozed", id, details)
            tx.notify(TOPIC, id)
        return alert

    async def _get_open(self, tx: Tx, id: str) -> Alert:
        await tx.lock(_LOCK)
        alert = await alert_store.get_alert(tx, id)
        if alert is None or alert.state == "pending":
            raise NotFound(f"There is no alert {id!r}.")
        if alert.state != "open":
            raise Conflict("The alert is cleared: nothing has to be done.")
        return alert

    async def list_rules(self, tx: Tx) -> list[AlertRule]:
        """Return all rules as they are now."""
        return list((await alert_store.load_rules(tx)).values())

    async def change_rules(self, changes: Iterable[RuleChange], actor: str) -> list[AlertRule]:
        """Change rules and return all; raise ``Invalid`` for a value outside its bounds.

        The next evaluation uses them, in any process.
        """
        checked = check_changes(changes)
        async with self._db.write() as tx:
            await tx.lock(_LOCK)
            rules = await alert_store.load_rules(tx)
            for change in checked:
                before = rules[change.kind]
                after = rules[change.kind] = change_rule(before, change)
                if after != before:
                    await alert_store.save_rule(tx, after)
                    details = rule_fields(after)
                    await access.record_audit(tx, actor, "alert_rule.changed", change.kind, details)
            tx.notify(TOPIC, "rules")
        return list(rules.values())


def alert_fields(alert: Alert, unit: str) -> dict[str, Any]:
    """Return the fields of an alert for viewers; figures in the rule's unit."""
    return {
        "id": alert.id,
        "rule": alert.rule,
        "subject": alert.subject,
        "group": alert.group_name,
        "severity": alert.severity,
        "state": alert.state,
        "value": alert.value / THOUSAND,
        "threshold": alert.threshold / THOUSAND,
        "unit": unit,
        "detail": alert.detail,
        "since": alert.since,
        "raised_at": alert.raised_at,
        "raised_count": alert.raised_count,
        "cleared_at": alert.cleared_at,
        "acknowledged_at": alert.acknowledged_at,
        "acknowledged_by": alert.acknowledged_by,
        "acknowledged_why": alert.acknowledged_why,
        "snoozed_until": alert.snoozed_until,
        "snoozed_by": alert.snoozed_by,
    }


def rule_fields(rule: AlertRule) -> dict[str, Any]:
    """Return the fields of a rule for viewers; the threshold in the rule's unit."""
    return {
        "kind": rule.kind,
        "enabled": rule.enabled,
        "condition": "below" if rule.is_below else "above",
        "threshold": rule.threshold / THOUSAND,
        "unit": rule.unit,
        "for_seconds": rule.for_seconds,
        "clear_seconds": rule.clear_seconds,
        "severity": rule.severity,
    }


def _message_id(first: Alert) -> str:
    """Return the id of a message; one that reminds after a snooze is another."""
    return f"{first.id}:{first.updated_at}"


def _message_key(message: str, user_id: str) -> str:
    return f"alert:{message}:{user_id}"


def _message_fields(alert: Alert) -> dict[str, Any]:
    return {
        "rule": alert.rule,
        "subject": alert.subject,
        "severity": alert.severity,
        "detail": alert.detail,
    }


def _ended_fields(alert: Alert, now: int) -> dict[str, Any]:
    over = f"It is over since {to_rfc3339(alert.cleared_at or now)}."
    return {**_message_fields(alert), "detail": f"{alert.detail} {over}" if alert.detail else over}


def _audit(alert: Alert, why: str | None) -> dict[str, Any]:
    details = {"rule": alert.rule, "subject": alert.subject}
    return details if why is None else {**details, "why": why}


def _log_change(event: str, alert: Alert) -> None:
    fields = {"alert_id": alert.id, "rule": alert.rule, "subject": alert.subject}
    if event == "cleared":
        log.warning("alert_cleared", **fields)
    elif event == "reopened":
        log.error("alert_reopened", **fields, detail=alert.detail)
    else:
        log.error("alert_raised", **fields, detail=alert.detail)
