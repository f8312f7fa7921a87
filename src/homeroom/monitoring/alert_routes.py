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
AlertId = Annotated[ExternalId, Path(alias="alertId")]
_Span = Annotated[int | None, Field(ge=0, le=MAX_SPAN_SECONDS)]


class AlertView(ResponseModel):
    """An alert: the figure that raised it, and what operators did."""

    id: str
    rule: str
    subject: str
    """What it is about, such as a queue or a partner system; empty: all of Homeroom."""
    group: str
    """Alerts of one cause have the same; one message tells of all."""
    severity: Severity
    state: Literal["open", "cleared"]
    value: float
    threshold: float
    unit: AlertUnit
    detail: str | None
    since: Rfc3339Instant
    raised_at: Rfc3339Instant
    raised_count: int
    cleared_at: Rfc3339Instant | None
    acknowledged_at: Rfc3339Instant | None
    acknowledged_by: str | None
    acknowledged_why: str | None
    snoozed_until: Rfc3339Instant | None
    snoozed_by: str | None


class AcknowledgeBody(RequestModel):
    """A note for other operators."""

    why: SingleLine | None = None


class SnoozeBody(RequestModel):
    """For how long an alert is silenced."""

    seconds: Annotated[int, Field(ge=60, le=MAX_SNOOZE_SECONDS)]
    why: SingleLine | None = None


class AlertRuleView(ResponseModel):
    """A rule: when figures raise an alert and when it is cleared."""

    kind: str
    enabled: bool
    condition: Literal["above", "below"]
    threshold: float
    unit: AlertUnit
    for_seconds: int
    clear_seconds: int
    severity: Severity
    is_default: bool


class AlertRuleBody(RequestModel):
    """Changes of one rule; members that are left out stay unchanged."""

    kind: Annotated[str, Field(max_length=64)]
    enabled: bool | None = None
    threshold: Annotated[float | None, Field(ge=0, le=1e12)] = None
    for_seconds: _Span = None
    clear_seconds: _Span = None
    severity: Severity | None = None
    reset: bool = False
    """Set the rule to its default before the other members are applied."""


class AlertRulesBody(RequestModel):
    """Changes of rules; those that are not named stay unchanged."""

    rules: Annotated[list[AlertRuleBody], Field(max_length=_MOST_RULES)]


class AlertRuleList(ResponseModel):
    """All rules."""

    items: list[AlertRuleView]


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
        paging: PagingQuery, state: Annotated[Literal["open", "cleared", "all"], Query()] = "open"
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
        """Silence an alert for a time; if it is still open then, its message is sent again."""
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
