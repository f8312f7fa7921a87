"""Alerts that cannot be stored, as the disk is full, are held in memory.

The alert about a full disk is the one that cannot be stored. It is listed by the process that
holds it, logged, and stored and sent once there is room again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import structlog

from homeroom.monitoring.alert_evaluation import Alert, AlertChange, open_key
from homeroom.monitoring.alert_rules import AlertRule

log = structlog.get_logger(__name__)
_NEW = frozenset({"pending", "raised", "reopened"})


class HeldAlerts:
    """Alerts that are pending or open and have no row yet, by their unique keys."""

    def __init__(self) -> None:
        """Hold none."""
        self._by_key: dict[str, Alert] = {}

    def __bool__(self) -> bool:
        return bool(self._by_key)

    def merge(self, stored: Iterable[Alert]) -> list[Alert]:
        """Return the stored alerts, with the held ones in place of those of the same key."""
        others = [each for each in stored if each.open_key not in self._by_key]
        return [*others, *self._by_key.values()]

    def open_alerts(self) -> list[Alert]:
        """Return the held alerts that are raised, the newest first."""
        found = [alert for alert in self._by_key.values() if alert.state == "open"]
        return sorted(found, key=lambda alert: alert.id, reverse=True)

    def apply(self, changes: Iterable[AlertChange]) -> None:
        """Keep changes that could not be stored.

        Those of stored alerts are planned again by the next evaluation.
        """
        for change in changes:
            alert = change.alert
            key = open_key(alert.rule, alert.subject)
            if change.kind in {"forgotten", "cleared"}:
                if self._by_key.pop(key, None) is not None and change.kind == "cleared":
                    log.warning("alert_cleared", **_fields(alert))
            elif change.kind in _NEW or key in self._by_key:
                self._by_key[key] = alert
                if change.kind in {"raised", "reopened"}:
                    log.error("alert_not_stored", **_fields(alert), detail=alert.detail)

    def not_among(self, stored: Iterable[Alert]) -> list[Alert]:
        """Return the held alerts whose keys are not stored."""
        keys = {alert.open_key for alert in stored}
        return [alert for key, alert in self._by_key.items() if key not in keys]

    def release(self) -> None:
        """Forget all: they are stored, or another process evaluates."""
        self._by_key.clear()


def raised_late(
    late: Iterable[Alert], planned: Sequence[AlertChange], rules: Mapping[str, AlertRule]
) -> list[AlertChange]:
    """Return the changes of alerts that were raised while they could not be stored.

    One that has ended needs no message, and one that was reopened has had its own.
    """
    ended = {change.alert.id for change in planned if change.kind == "cleared"}
    return [
        AlertChange("raised", alert, notifies=rules[alert.rule].notifies)
        for alert in late
        if alert.state == "open" and alert.raised_count == 1 and alert.id not in ended
    ]


def _fields(alert: Alert) -> dict[str, str]:
    return {"alert_id": alert.id, "rule": alert.rule, "subject": alert.subject}
