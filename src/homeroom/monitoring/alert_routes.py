"""HTTP routes of alerts and their rules: viewers read, operators act."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

from fastapi import APIRouter, Body, Depends, Path, Query
from pydantic import Field

from homeroom.db.database import Database
from homeroom.identity import Identity, Role
from homeroom.monitoring.alert_evaluation import Alert
from homeroom.monitoring.alert_rules import (
    DEFAULT_RULES,
    MAX_SPAN_SECONDS,
    AlertRule,
    AlertUnit,
    RuleChange,
    Severity,
)
from homeroom.monitoring.alerts import MAX_SNOOZE_SECONDS, Alerts, alert_fields, rule_fields
from homeroom.web.identity import Auth
from homeroom.web.model import (
    ExternalId,
    RequestModel,
    ResponseModel,
    Rfc3339Instant,
    SingleLine,
)
from homeroom.web.paging import Page, PagingQuery, cut_page

_MOST_RULES = 50
AlertId = Annotated[ExternalId, Path(alias="alertId", description="Id of the alert.")]
_Span = Annotated[int | None, Field(ge=0, le=MAX_SPAN_SECONDS)]


class AlertView(ResponseModel):
    """An alert: the figure that raised it, and what operators did."""

    id: str
    rule: str
    """Kind of the rule that raised it."""
    subject: str
    """What it is about, such as a queue or a partner system; empty: all of Homeroom."""
    group: str
    """Alerts of one cause have the same; one message tells of all."""
    severity: Severity
    """How urgent it is."""
    state: Literal["open", "cleared"]
    """Whether its condition holds, or is over."""
    value: float
    """The figure that was read last, in the unit."""
    threshold: float
    """The threshold of the rule when the figure was read."""
    unit: AlertUnit
    """Unit of the figure and of the threshold."""
    detail: str | None
    """The figure in a sentence."""
    since: Rfc3339Instant
    """The time from which the condition holds."""
    raised_at: Rfc3339Instant
    """The time at which it was raised first."""
    raised_count: int
    """How often it was raised; within an hour of its end it is the same alert."""
    cleared_at: Rfc3339Instant | None
    """The time at which it was cleared."""
    acknowledged_at: Rfc3339Instant | None
    """The time at which an operator acknowledged it."""
    acknowledged_by: str | None
    """The operator who acknowledged it."""
    acknowledged_why: str | None
    """The operator's note."""
    snoozed_until: Rfc3339Instant | None
    """The time until which it is silent."""
    snoozed_by: str | None
    """The operator who snoozed it."""


class AcknowledgeBody(RequestModel):
    """The acknowledgement of an alert."""

    why: SingleLine | None = None
    """A note for other operators."""


class SnoozeBody(RequestModel):
    """For how long an alert is silenced."""

    seconds: Annotated[int, Field(ge=60, le=MAX_SNOOZE_SECONDS)]
    """The time for which it is silent."""
    why: SingleLine | None = None
    """A note, which the audit trail has."""


class AlertRuleView(ResponseModel):
    """A rule: when figures raise an alert and when it is cleared."""

    kind: str
    """Kind of the rule; there is one of each."""
    enabled: bool
    """Whether the rule is used."""
    condition: Literal["above", "below"]
    """On which side of the threshold the condition holds."""
    threshold: float
    """The threshold, in the unit."""
    unit: AlertUnit
    """Unit of the threshold."""
    for_seconds: int
    """The time for which the condition must hold before an alert is raised."""
    clear_seconds: int
    """The time without the condition after which an alert is cleared."""
    severity: Severity
    """How urgent its alerts are."""
    is_default: bool
    """Nothing of it was changed."""


class AlertRuleBody(RequestModel):
    """Changes of one rule; members that are left out stay unchanged."""

    kind: Annotated[str, Field(max_length=64)]
    """Kind of the rule to change."""
    enabled: bool | None = None
    """Use the rule, or do not; its alerts are cleared then."""
    threshold: Annotated[float | None, Field(ge=0, le=1e12)] = None
    """The new threshold, in the rule's unit."""
    for_seconds: _Span = None
    """The time for which the condition must hold."""
    clear_seconds: _Span = None
    """The time without the condition until alerts are cleared."""
    severity: Severity | None = None
    """How urgent its alerts are."""
    reset: bool = False
    """Set the rule to its default before the other members are applied."""


class AlertRulesBody(RequestModel):
    """Changes of rules; those that are not named stay unchanged."""

    rules: Annotated[list[AlertRuleBody], Field(max_length=_MOST_RULES)]
    """The changes, at most one of each rule."""


class AlertRuleList(ResponseModel):
    """All rules."""

    items: list[AlertRuleView]
    """The rules in a fixed order."""


def _view(alert: Alert) -> AlertView:
    rule = DEFAULT_RULES.get(alert.rule)
    unit: AlertUnit = "checks" if rule is None else rule.unit
    return AlertView.model_validate(alert_fields(alert, unit))


def _rule_list(rules: Sequence[AlertRule]) -> AlertRuleList:
    return AlertRuleList(
        items=[
            AlertRuleView.model_validate(
                {**rule_fields(rule), "is_default": rule == DEFAULT_RULES[rule.kind]}
            )
            for rule in rules
        ]
    )


def router(db: Database, auth: Auth, alerts: Alerts) -> APIRouter:
    """Return the routes of alerts."""
    routes = APIRouter(prefix="/api/v1", tags=["Operations"])
    reader = Depends(auth.require(Role.OPERATOR, Role.VIEWER))
    operator: Identity = Depends(auth.require(Role.OPERATOR))

    @routes.get("/alerts", dependencies=[reader])
    async def list_alerts(
        paging: PagingQuery,
        state: Annotated[
            Literal["open", "cleared", "all"], Query(description="Alerts of this state.")
        ] = "open",
    ) -> Page[AlertView]:
        """List alerts, the newest first; by default those that are open."""
        key = paging.key(str)
        before = None if key is None else str(key[0])
        async with db.read() as tx:
            found = await alerts.list_alerts(tx, state, before, paging.limit + 1)
        rows, cursor = cut_page(found, paging, lambda alert: (alert.id,))
        return Page(items=[_view(alert) for alert in rows], next_cursor=cursor)

    @routes.post("/alerts/{alertId}/acknowledge")
    async def acknowledge_alert(
        alert_id: AlertId,
        body: Annotated[AcknowledgeBody | None, Body()] = None,
        identity: Identity = operator,
    ) -> AlertView:
        """Record that an operator deals with an alert; its message is not repeated."""
        why = None if body is None else body.why
        return _view(await alerts.acknowledge(alert_id, identity.subject, why))

    @routes.post("/alerts/{alertId}/snooze")
    async def snooze_alert(
        alert_id: AlertId,
        body: SnoozeBody,
        identity: Identity = operator,
    ) -> AlertView:
        """Silence an alert for a time.

        If it is still open then, its message is sent again.
        """
        return _view(await alerts.snooze(alert_id, identity.subject, body.seconds, body.why))

    @routes.get("/alert-rules", dependencies=[reader])
    async def list_alert_rules() -> AlertRuleList:
        """List the rules of alerts as they are now."""
        async with db.read() as tx:
            rules = await alerts.list_rules(tx)
        return _rule_list(rules)

    @routes.put("/alert-rules")
    async def update_alert_rules(
        body: AlertRulesBody, identity: Identity = operator
    ) -> AlertRuleList:
        """Change rules of alerts; the next evaluation uses them."""
        changes = [
            RuleChange(
                each.kind,
                each.enabled,
                each.threshold,
                each.for_seconds,
                each.clear_seconds,
                each.severity,
                each.reset,
            )
            for each in body.rules
        ]
        return _rule_list(await alerts.change_rules(changes, identity.subject))

    return routes
