"""``homeroom alerts``: list, acknowledge and snooze alerts; change rules."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from homeroom.cli.application import audit_actor, run_with_application
from homeroom.cli.group import JsonOption, LazyModule, command_group, epilog, parse_duration_us
from homeroom.cli.terminal import (
    format_instant,
    pluralize,
    print_json,
    print_table,
    print_text,
    to_json_fields,
)
from homeroom.errors import BadRequest
from homeroom.instant import SECOND, to_rfc3339

if TYPE_CHECKING:
    from homeroom.bootstrap.application import Application
    from homeroom.monitoring import alert_rules
    from homeroom.monitoring import alerts as alerts_module
    from homeroom.monitoring.alert_evaluation import Alert
    from homeroom.monitoring.alert_rules import AlertRule
else:
    alert_rules = LazyModule("homeroom.monitoring.alert_rules")
    alerts_module = LazyModule("homeroom.monitoring.alerts")

app = command_group("List, acknowledge and snooze alerts; change rules.")

AlertIdArgument = Annotated[
    str, typer.Argument(metavar="ID", help="As `homeroom alerts list` shows it.")
]
WhyOption = Annotated[
    str | None, typer.Option("--why", help="A note for other operators; the audit trail has it.")
]
_STATES = ("open", "cleared", "all")
_SEVERITIES = ("warning", "critical")


@app.command("list", epilog=epilog("homeroom alerts list", "homeroom alerts list --state all"))
def list_alerts(
    state: Annotated[str, typer.Option(help="open, cleared or all.")] = "open",
    limit: Annotated[int, typer.Option(min=1, max=1_000, help="Alerts at most.")] = 100,
    as_json: JsonOption = False,
) -> None:
    """List alerts, the newest first; by default those that are open.

    Alerts are evaluated by `homeroom serve` and `homeroom worker`; while none runs, they stay as
    they were.
    """
    if state not in _STATES:
        raise BadRequest(f"{state!r} is not a state.", hint="Use open, cleared or all.")

    async def read(application: Application) -> list[Alert]:
        async with application.db.read() as tx:
            return await application.alerts.list_alerts(tx, state, None, limit)

    found = run_with_application(read)
    if as_json:
        print_json({"items": [_alert_fields(alert) for alert in found]})
        return
    print_table(
        ("id", "severity", "rule", "subject", "raised", "state", "detail"),
        [
            (
                alert.id,
                alert.severity,
                alert.rule,
                alert.subject,
                format_instant(alert.raised_at),
                _describe_state(alert),
                alert.detail or "",
            )
            for alert in found
        ],
        "There are no alerts." if state == "all" else f"There are no {state} alerts.",
    )


@app.command(epilog=epilog('homeroom alerts acknowledge ID --why "HR updates"', codes=(4, 5)))
def acknowledge(
    alert_id: AlertIdArgument, why: WhyOption = None, as_json: JsonOption = False
) -> None:
    """Record that you deal with an alert; its message is not repeated.

    This adds a line to the audit trail.
    """

    async def run(application: Application) -> Alert:
        return await application.alerts.acknowledge(alert_id, audit_actor(), why)

    _print_changed(run_with_application(run), as_json, "The alert is acknowledged.")


@app.command(epilog=epilog("homeroom alerts snooze ID --for 4h", codes=(4, 5)))
def snooze(
    alert_id: AlertIdArgument,
    span: Annotated[str, typer.Option("--for", help="Such as 30m, 4h or 2d; 7 days at most.")],
    why: WhyOption = None,
    as_json: JsonOption = False,
) -> None:
    """Silence an alert for a time.

    If it is still open then, its message is sent again.

    This adds a line to the audit trail.
    """
    seconds = parse_duration_us(span) // SECOND

    async def run(application: Application) -> Alert:
        return await application.alerts.snooze(alert_id, audit_actor(), seconds, why)

    alert = run_with_application(run)
    until = format_instant(alert.snoozed_until)
    _print_changed(alert, as_json, f"The alert is snoozed until {until}.")


@app.command("rules", epilog=epilog("homeroom alerts rules", "homeroom alerts rules --json"))
def list_rules(as_json: JsonOption = False) -> None:
    """Show when figures raise an alert, and when it is cleared.

    FOR is the time for which the condition must hold, CLEAR that without it until the alert ends.
    """

    async def read(application: Application) -> list[AlertRule]:
        async with application.db.read() as tx:
            return await application.alerts.list_rules(tx)

    _print_rules(run_with_application(read), as_json)


@app.command(
    "set-rule",
    epilog=epilog(
        "homeroom alerts set-rule queue_age --threshold 600 --for 15m",
        "homeroom alerts set-rule queue_size --off",
        "homeroom alerts set-rule queue_size --reset",
    ),
)
def set_rule(
    kind: Annotated[str, typer.Argument(help="As `homeroom alerts rules` shows it.")],
    threshold: Annotated[
        float | None, typer.Option(help="In the unit that `homeroom alerts rules` shows.")
    ] = None,
    span: Annotated[str | None, typer.Option("--for", help="Such as 0s, 90s or 10m.")] = None,
    clear: Annotated[str | None, typer.Option("--clear", help="Such as 60s or 5m.")] = None,
    severity: Annotated[str | None, typer.Option(help="warning or critical.")] = None,
    enabled: Annotated[bool | None, typer.Option("--on/--off", help="Use the rule.")] = None,
    reset: Annotated[bool, typer.Option("--reset", help="Begin with the default.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Change a rule; what is not given stays as it is.

    The next evaluation uses it. This adds a line to the audit trail.
    """
    if severity is not None and severity not in _SEVERITIES:
        raise BadRequest(f"{severity!r} is no severity.", hint="Use warning or critical.")
    change = alert_rules.RuleChange(
        kind,
        enabled,
        threshold,
        None if span is None else parse_duration_us(span) // SECOND,
        None if clear is None else parse_duration_us(clear) // SECOND,
        severity,  # type: ignore[arg-type]  # one of _SEVERITIES
        reset,
    )

    async def run(application: Application) -> list[AlertRule]:
        return await application.alerts.change_rules([change], audit_actor())

    _print_rules([rule for rule in run_with_application(run) if rule.kind == kind], as_json)


def _print_changed(alert: Alert, as_json: bool, text: str) -> None:
    if as_json:
        print_json(_alert_fields(alert))
    else:
        print_text(text)


def _print_rules(rules: list[AlertRule], as_json: bool) -> None:
    fields = [alerts_module.rule_fields(rule) for rule in rules]
    if as_json:
        print_json({"items": [to_json_fields(each) for each in fields]})
        return
    print_table(
        ("kind", "condition", "unit", "for", "clear", "severity", "on"),
        [
            (
                each["kind"],
                f"{each['condition']} {each['threshold']:g}",
                each["unit"],
                f"{each['for_seconds']} s",
                f"{each['clear_seconds']} s",
                each["severity"],
                "yes" if each["enabled"] else "no",
            )
            for each in fields
        ],
        "There are no rules.",
    )


def _describe_state(alert: Alert) -> str:
    words: list[str] = [alert.state]
    if alert.raised_count > 1:
        words.append(f"raised {pluralize(alert.raised_count, 'time')}")
    if alert.acknowledged_by is not None:
        words.append(f"acknowledged by {alert.acknowledged_by}")
    if alert.snoozed_until is not None and alert.state == "open":
        words.append(f"snoozed until {format_instant(alert.snoozed_until)}")
    return ", ".join(words)


def _alert_fields(alert: Alert) -> dict[str, Any]:
    rule = alert_rules.DEFAULT_RULES.get(alert.rule)
    fields = alerts_module.alert_fields(alert, "checks" if rule is None else rule.unit)
    instants = ("since", "snoozed_until")
    known = {name: fields[name] for name in instants if fields[name] is not None}
    return to_json_fields({**fields, **{name: to_rfc3339(at) for name, at in known.items()}})
