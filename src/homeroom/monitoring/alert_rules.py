"""The rules of alerts: their defaults, and the bounds of changes (pure).

Figures are integers: thousandths of the rule's unit, so that shares are exact in both databases.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from homeroom.errors import Invalid

Severity = Literal["warning", "critical"]
AlertUnit = Literal[
    "jobs", "seconds", "share", "steps", "workers", "slots", "bytes", "days", "checks"
]
THOUSAND = 1_000
MAX_SPAN_SECONDS = 7 * 86_400
NO_WORKER = "no_worker"


@dataclass(frozen=True, slots=True)
class AlertRule:
    """The condition that raises an alert. Thresholds are thousandths of the unit."""

    kind: str
    unit: AlertUnit
    threshold: int
    for_seconds: int
    """The span for which the condition must hold before the alert is raised."""
    clear_seconds: int
    """The span without the condition after which the alert is cleared."""
    severity: Severity
    enabled: bool = True
    is_below: bool = False
    """The condition holds below the threshold, not above it."""
    follows_no_worker: bool = False
    """Without a worker the condition is a consequence, which needs no message of its own."""
    notifies: bool = True
    """False: another message tells of it."""
    least: int = 0
    most: int = 10**15
    """The bounds of the threshold."""

    def holds(self, value: int) -> bool:
        """Return whether a value fulfils the condition."""
        return value < self.threshold if self.is_below else value > self.threshold


def _rule(
    kind: str,
    unit: AlertUnit,
    threshold: float,
    spans: tuple[int, int],
    severity: Severity = "warning",
    **more: Any,
) -> AlertRule:
    for_seconds, clear_seconds = spans
    scaled = round(threshold * THOUSAND)
    return AlertRule(kind, unit, scaled, for_seconds, clear_seconds, severity, **more)


_SHARE: dict[str, Any] = {"most": THOUSAND}
_RULES = (
    _rule(NO_WORKER, "workers", 1, (120, 60), "critical", is_below=True, least=THOUSAND),
    _rule("worker_down", "seconds", 60, (300, 60), follows_no_worker=True),
    _rule("queue_size", "jobs", 100, (1_200, 300), follows_no_worker=True),
    _rule("queue_age", "seconds", 300, (600, 120), follows_no_worker=True),
    _rule("failed_jobs", "jobs", 0, (0, 60)),
    _rule("error_rate", "share", 0.05, (60, 300), **_SHARE),
    _rule("failed_steps", "steps", 0, (300, 60)),
    _rule("owed_steps", "seconds", 3_600, (60, 60), follows_no_worker=True),
    _rule("worker_memory", "share", 0.9, (600, 120), **_SHARE),
    _rule("stuck_writer", "checks", 0, (0, 60), "critical"),
    _rule(
        "missed_schedule",
        "slots",
        0,
        (0, 60),
        "critical",
        follows_no_worker=True,
        notifies=False,  # the message `schedule_missed` lists the slots
    ),
    _rule("destination", "seconds", 0, (300, 60)),
    _rule("mail_server", "seconds", 0, (60, 60), "critical"),
    _rule("disk_space", "bytes", 1024**3, (60, 60), "critical", is_below=True),
    _rule("key_expiry", "days", 14, (0, 60), is_below=True),
    _rule("certificate_expiry", "days", 14, (0, 60), is_below=True),
    _rule("health_check", "checks", 0, (60, 60)),
)
DEFAULT_RULES: Mapping[str, AlertRule] = {rule.kind: rule for rule in _RULES}
"""All rules by kind, in the order in which they are listed."""


@dataclass(frozen=True, slots=True)
class RuleChange:
    """A change of one rule; what is None stays as it is."""

    kind: str
    enabled: bool | None = None
    threshold: float | None = None
    for_seconds: int | None = None
    clear_seconds: int | None = None
    severity: Severity | None = None
    reset: bool = False
    """Begin with the default, not with what the rule is now."""


def change_rule(rule: AlertRule, change: RuleChange) -> AlertRule:
    """Return a changed rule; raise ``Invalid`` for a value outside its bounds."""
    rule = DEFAULT_RULES[rule.kind] if change.reset else rule
    if change.threshold is not None:
        scaled = round(change.threshold * THOUSAND)
        if not rule.least <= scaled <= rule.most:
            raise Invalid(
                f"The threshold of {rule.kind} is from {rule.least / THOUSAND:g} to"
                f" {rule.most / THOUSAND:g} ({rule.unit}); {change.threshold:g} is not."
            )
        rule = replace(rule, threshold=scaled)
    for name in ("for_seconds", "clear_seconds"):
        span = getattr(change, name)
        if span is None:
            continue
        if not 0 <= span <= MAX_SPAN_SECONDS:
            raise Invalid(f"{name} of {rule.kind} is from 0 to {MAX_SPAN_SECONDS}; {span} is not.")
        rule = replace(rule, **{name: span})
    return replace(
        rule,
        enabled=rule.enabled if change.enabled is None else change.enabled,
        severity=change.severity or rule.severity,
    )


def check_changes(changes: Iterable[RuleChange]) -> list[RuleChange]:
    """Return changes of known rules, each once; raise ``Invalid`` for others."""
    found = list(changes)
    kinds = [change.kind for change in found]
    if unknown := sorted(set(kinds) - DEFAULT_RULES.keys()):
        raise Invalid(
            f"There is no alert rule {unknown[0]!r}. There are: {', '.join(DEFAULT_RULES)}."
        )
    if len(kinds) != len(set(kinds)):
        raise Invalid("A rule is changed twice; name each once.")
    return found
