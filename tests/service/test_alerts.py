"""Alerts and the history in the database: raised once, kept, sent, acknowledged over HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import httpx
import pytest
from tests.support.activity_school import ActivitySchool, build
from tests.support.api_client import AUTH, as_, client

from homeroom.clock import Clock
from homeroom.db.database import Database
from homeroom.errors import StorageFull
from homeroom.instant import SECOND, to_rfc3339
from homeroom.monitoring import alert_routes, alert_store, history_routes, history_store
from homeroom.monitoring.alert_evaluation import Figures, Reading
from homeroom.monitoring.alert_rules import DEFAULT_RULES, THOUSAND
from homeroom.monitoring.alerts import Alerts
from homeroom.monitoring.history import HistoryRecorder, Measure
from homeroom.monitoring.metrics import Metrics
from homeroom.monitoring.monitor import Monitor, MonitorSources

pytestmark = [pytest.mark.anyio, pytest.mark.service]
OPERATOR, VIEWER = as_("operator"), as_("viewer")
AWAY = Reading("destination", "hr", THOUSAND, "It is away: no answer", 0, "partner:hr")
MINUTE = 60 * SECOND


class StandingClock(Clock):
    """A clock that only the test moves."""

    def __init__(self) -> None:
        super().__init__()
        self._at = super().now() // (60 * MINUTE) * 60 * MINUTE

    def now(self) -> int:
        return self._at

    def advance(self, by: timedelta) -> None:
        self._at += round(by.total_seconds() * SECOND)


@pytest.fixture
def clock() -> Clock:
    return StandingClock()


@pytest.fixture
async def school(db: Database, clock: Clock) -> ActivitySchool:
    made = build(db, clock, {})
    await made.person("ops", email="ops@example.org", roles=("operator",))
    await made.person("boss", email="Boss@example.org", roles=("admin", "operator"))
    await made.person("ada", email="ada@example.org")
    return made


@pytest.fixture
def alerts(school: ActivitySchool) -> Alerts:
    return Alerts(
        school.db,
        school.notifications,
        console_url="https://learn.example.org/console/alerts",
        addresses=("night@example.org", "boss@example.org"),
    )


@pytest.fixture
async def api(db: Database, alerts: Alerts) -> AsyncIterator[httpx.AsyncClient]:
    routers = alert_routes.router(db, AUTH, alerts), history_routes.router(db, AUTH)
    async with client(*routers) as opened:
        yield opened


async def listed(api: httpx.AsyncClient, state: str = "open") -> list[dict[str, Any]]:
    answer = await api.get("/api/v1/alerts", params={"state": state}, headers=VIEWER)
    assert answer.status_code == 200, answer.text
    return list(answer.json()["items"])


async def notes(school: ActivitySchool) -> list[tuple[str, bool]]:
    """Return the messages about alerts: the recipient, and whether it is resolved."""
    async with school.db.read() as tx:
        rows = await tx.fetch(
            "SELECT user_id, resolved_at FROM notification WHERE type = 'alert' ORDER BY user_id"
        )
    return [(user_id, resolved_at is not None) for user_id, resolved_at in rows]


async def raise_alert(alerts: Alerts, db: Database) -> None:
    """Let a partner be away for longer than the rule's span."""
    figures, since = Figures([AWAY]), db.clock.now()
    await alerts.evaluate(figures, since)
    db.clock.advance(timedelta(minutes=5))
    await alerts.evaluate(figures, since)


async def test_two_evaluators_raise_one_alert_and_each_operator_gets_one_message(
    school: ActivitySchool, alerts: Alerts, api: httpx.AsyncClient
) -> None:
    since = school.clock.now()
    await alerts.evaluate(Figures([AWAY]), since)
    school.clock.advance(timedelta(minutes=5))
    changes = await asyncio.gather(*(alerts.evaluate(Figures([AWAY]), since) for _ in range(5)))
    assert [change.kind for found in changes for change in found] == ["raised"]
    [alert] = await listed(api)
    assert (alert["rule"], alert["subject"], alert["group"]) == ("destination", "hr", "partner:hr")
    assert (alert["state"], alert["severity"], alert["raisedCount"]) == ("open", "warning", 1)
    recipients = ["boss", "night@example.org", "ops"]
    assert await notes(school) == [(each, False) for each in recipients]
    for hour in range(48):  # an outage of a weekend: one message, not one an hour
        school.clock.advance(timedelta(hours=1))
        owed = Reading("owed_steps", "hr", hour * 3_600 * THOUSAND, group="partner:hr")
        await alerts.evaluate(Figures([AWAY, owed]), since)
    assert {each["rule"] for each in await listed(api)} == {"destination", "owed_steps"}
    assert await notes(school) == [(each, False) for each in recipients]
    await alerts.evaluate(Figures([]), since)
    school.clock.advance(timedelta(minutes=1))
    await alerts.evaluate(Figures([]), since)
    assert await listed(api) == []
    assert len(await listed(api, "cleared")) == 2
    assert await notes(school) == [(each, True) for each in recipients]


async def test_alerts_are_acknowledged_and_snoozed_by_operators_and_audited(
    school: ActivitySchool, alerts: Alerts, api: httpx.AsyncClient
) -> None:
    await raise_alert(alerts, school.db)
    [alert] = await listed(api)
    path = f"/api/v1/alerts/{alert['id']}"
    assert (await api.post(f"{path}/acknowledge", headers=VIEWER)).status_code == 403
    body = {"why": "HR is being updated"}
    done = await api.post(f"{path}/acknowledge", json=body, headers=OPERATOR)
    assert (done.status_code, done.json()["acknowledgedBy"]) == (200, "key operator")
    assert done.json()["acknowledgedWhy"] == "HR is being updated"
    for seconds, status in ((59, 422), (7 * 86_400 + 1, 422), (3_600, 200)):
        done = await api.post(f"{path}/snooze", json={"seconds": seconds}, headers=OPERATOR)
        assert done.status_code == status, seconds
    assert done.json()["snoozedUntil"] == to_rfc3339(school.clock.now() + 3_600 * SECOND)
    await alerts.evaluate(Figures([]), 0)
    school.clock.advance(timedelta(minutes=1))
    await alerts.evaluate(Figures([]), 0)
    ended = await api.post(f"{path}/acknowledge", headers=OPERATOR)
    assert (ended.status_code, ended.json()["code"]) == (409, "conflict")
    unknown = await api.post("/api/v1/alerts/nothing/acknowledge", headers=OPERATOR)
    assert unknown.status_code == 404
    async with school.db.read() as tx:
        rows = await tx.fetch("SELECT actor, action FROM audit ORDER BY id")
    assert rows == [("key operator", "alert.acknowledged"), ("key operator", "alert.snoozed")]


async def test_an_alert_that_cannot_be_stored_is_listed_and_told_later(
    school: ActivitySchool, alerts: Alerts, api: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise StorageFull("The disk is full.")

    since = school.clock.now()
    disk = Reading("disk_space", "host", 0, "0 B of 16 MiB are free.")
    with monkeypatch.context() as patched:
        patched.setattr(school.db, "write", full)
        await alerts.evaluate(Figures([disk]), since)
        assert await listed(api) == []
        school.clock.advance(timedelta(minutes=1))
        await alerts.evaluate(Figures([disk]), since)
        [held] = await listed(api)
        assert (held["rule"], held["since"]) == ("disk_space", to_rfc3339(since))
        assert [each["id"] for each in await listed(api, "all")] == [held["id"]]
        assert await listed(api, "cleared") == []
        assert await notes(school) == []
    await alerts.evaluate(Figures([disk]), since)
    [stored] = await listed(api)
    assert (stored["id"], stored["raisedAt"]) == (held["id"], held["raisedAt"])
    recipients = ["boss", "night@example.org", "ops"]
    assert await notes(school) == [(each, False) for each in recipients]
    await alerts.evaluate(Figures([disk]), since)
    assert len(await notes(school)) == len(recipients)


async def test_rules_are_changed_within_bounds_and_reset(
    school: ActivitySchool, alerts: Alerts, api: httpx.AsyncClient
) -> None:
    path = "/api/v1/alert-rules"
    rules = (await api.get(path, headers=VIEWER)).json()["items"]
    assert [rule["kind"] for rule in rules] == list(DEFAULT_RULES)
    assert all(rule["isDefault"] for rule in rules)
    change = {"kind": "destination", "forSeconds": 0, "clearSeconds": 0, "severity": "critical"}
    assert (await api.put(path, json={"rules": [change]}, headers=VIEWER)).status_code == 403
    answer = await api.put(path, json={"rules": [change]}, headers=OPERATOR)
    changed = {rule["kind"]: rule for rule in answer.json()["items"]}["destination"]
    assert changed == {
        "kind": "destination",
        "enabled": True,
        "condition": "above",
        "threshold": 0.0,
        "unit": "seconds",
        "forSeconds": 0,
        "clearSeconds": 0,
        "severity": "critical",
        "isDefault": False,
    }
    await alerts.evaluate(Figures([AWAY]), 0)
    assert [alert["severity"] for alert in await listed(api)] == ["critical"]
    for bad in (
        {"kind": "no_such_rule"},
        {"kind": "error_rate", "threshold": 2},
        {"kind": "destination", "forSeconds": -1},
        {"kind": "destination", "severity": "loud"},
    ):
        refused = await api.put(path, json={"rules": [bad]}, headers=OPERATOR)
        assert refused.status_code == 422, bad
    reset = {"rules": [{"kind": "destination", "reset": True}]}
    answer = await api.put(path, json=reset, headers=OPERATOR)
    assert all(rule["isDefault"] for rule in answer.json()["items"])
    async with school.db.read() as tx:
        assert await tx.fetch("SELECT * FROM alert_rule") == []
        audit = await tx.fetch("SELECT action, subject FROM audit")
    assert audit == [("alert_rule.changed", "destination")] * 2


class Process:
    """A process's monitor with figures that the test sets."""

    def __init__(self, db: Database, alerts: Alerts, name: str, host: str = "host") -> None:
        self.metrics = Metrics()
        self.figures: list[Reading] = []

        async def figures() -> Figures:
            return Figures(list(self.figures))

        async def samples(tx: object) -> dict[str, int]:
            return {"workers": 2}

        async def completions(tx: object, since: int, before: int) -> int:
            return 3

        self.monitor = Monitor(
            db,
            name,
            host,
            HistoryRecorder(self.metrics),
            alerts,
            MonitorSources(lambda: {"stuck": 0}, samples, completions, figures),
        )


async def history(
    api: httpx.AsyncClient, metrics: str, resolution: str = "minute"
) -> dict[str, list[tuple[int, float | None, float | None]]]:
    query = {"metric": metrics, "resolution": resolution}
    answer = await api.get("/api/v1/metrics/history", params=query, headers=VIEWER)
    assert answer.status_code == 200, answer.text
    return {
        series["metric"]: [
            (point["count"], point["mean"], point["peak"]) for point in series["points"]
        ]
        for series in answer.json()["series"]
    }


async def test_processes_add_to_one_history_and_one_of_them_evaluates(
    db: Database, alerts: Alerts, api: httpx.AsyncClient
) -> None:
    one, two = Process(db, alerts, "one"), Process(db, alerts, "two")
    for process in (one, two):
        await process.monitor.tick()
    assert (one.monitor.leads, two.monitor.leads) == (True, False)
    for process in (one, two):
        process.metrics.count_events("accepted", 5)
        process.metrics.observe_request("GET", "/x", 503, 0.5)
        process.metrics.observe_attempt("queue", "kind", "done", 0.1, 2.0)
    db.clock.advance(timedelta(minutes=1))
    for process in (one, two):
        await process.monitor.tick()
        await process.monitor.tick()  # a minute is stored once
    found = await history(api, "events,requests,request_errors,job_waits,workers,completions")
    assert found["events"] == [(10, None, None)]
    assert found["requests"] == [(2, 0.5, None)]
    assert found["request_errors"] == [(2, None, None)]
    assert found["job_waits"] == [(2, 2.0, None)]
    assert found["workers"] == [(1, 2.0, 2.0), (1, 2.0, 2.0)]
    assert (await history(api, "events", "hour"))["events"] == [(10, None, None)]
    # The process that evaluates dies; the other one takes over, and raises what it reads.
    two.figures = [Reading("missed_schedule", "reminder.a", THOUSAND)]
    db.clock.advance(timedelta(seconds=74))
    await two.monitor.tick()
    assert (two.monitor.leads, await listed(api)) == (False, [])
    db.clock.advance(timedelta(seconds=2))
    await two.monitor.tick()
    assert (two.monitor.leads, len(await listed(api))) == (True, 1)


async def test_an_idle_process_beside_the_one_that_evaluates_writes_nothing(
    db: Database, alerts: Alerts
) -> None:
    one, two = Process(db, alerts, "host.1"), Process(db, alerts, "host.2")
    far = Process(db, alerts, "far.3", host="far")
    started = db.clock.now()

    async def reported_after(minutes: int) -> dict[str, int]:
        db.clock.advance(timedelta(minutes=1))
        for process in (one, two, far):
            await process.monitor.tick()
        async with db.read() as tx:
            rows = await tx.fetch("SELECT id, seen_at FROM monitor_process")
        assert db.clock.now() == started + minutes * MINUTE
        return {id: (seen_at - started) // MINUTE for id, seen_at in rows}

    assert await reported_after(1) == {"host.1": 1, "host.2": 1, "far.3": 1}
    assert await reported_after(2) == {"host.1": 2, "host.2": 1, "far.3": 2}
    two.metrics.count_events("accepted", 5)
    assert await reported_after(3) == {"host.1": 3, "host.2": 3, "far.3": 3}
    assert await reported_after(4) == {"host.1": 4, "host.2": 3, "far.3": 4}
    await one.monitor._leave()  # as a stop does
    await two.monitor.tick()
    assert two.monitor.leads


async def test_spans_go_on_after_a_restart_and_begin_anew_after_a_downtime(
    db: Database, alerts: Alerts, api: httpx.AsyncClient
) -> None:
    since = Reading("destination", "hr", THOUSAND, None, db.clock.now(), "partner:hr")
    for name, minutes, is_raised in (("a", 4, False), ("b", 1, False), ("c", 1, True)):
        process = Process(db, alerts, name)
        process.figures = [since]
        await process.monitor.tick()
        assert bool(await listed(api)) == is_raised, name
        db.clock.advance(timedelta(minutes=minutes))
        await process.monitor._leave()  # as a stop does
    [alert] = await listed(api)
    after = Process(db, alerts, "d")
    db.clock.advance(timedelta(hours=60))
    after.figures = [since, Reading("queue_age", "hr", 60 * 3_600 * THOUSAND)]
    await after.monitor.tick()
    assert [each["id"] for each in await listed(api)] == [alert["id"]]
    async with db.read() as tx:
        pending = [each for each in await alert_store.list_current(tx) if each.state == "pending"]
    assert [(each.rule, each.since) for each in pending] == [("queue_age", db.clock.now())]


async def test_the_history_is_bounded_and_asked_for_within_bounds(
    db: Database, api: httpx.AsyncClient
) -> None:
    now = db.clock.now()
    async with db.write() as tx:
        for days in (0, 2, 40):
            at = now - days * 86_400 * SECOND
            await history_store.add_measures(tx, at, {"events": Measure(1)})
    async with db.write() as tx:
        await history_store.prune_history(tx)
        rows = await tx.fetch("SELECT resolution, COUNT(*) FROM metric_history GROUP BY resolution")
    assert sorted(rows) == [(60, 1), (3_600, 2)]
    for query in (
        {"metric": "weather"},
        {"metric": "events", "from": to_rfc3339(now + MINUTE), "to": to_rfc3339(now)},
        {"metric": "events", "from": to_rfc3339(now - 86_400 * 2 * SECOND)},
        {"metric": "events", "resolution": "second"},
    ):
        answer = await api.get("/api/v1/metrics/history", params=query, headers=VIEWER)
        assert answer.status_code == 422, query
    refused = await api.get("/api/v1/metrics/history?metric=events", headers=as_("learner:ada"))
    assert refused.status_code == 403
