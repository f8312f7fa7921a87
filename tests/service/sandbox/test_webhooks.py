"""What the sandbox's analytics and HR receivers take and refuse."""

from __future__ import annotations

import base64
from datetime import timedelta
from typing import Any

import pytest

pytestmark = pytest.mark.anyio

OTHER_SECRET = "whsec_" + base64.b64encode(b"another secret altogether").decode()


def changed(event: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    """Return the event with one field set, or taken out when the value is Ellipsis."""
    *parents, name = path.split(".")
    inner: Any = event
    for parent in parents:
        inner = inner[int(parent)] if parent.isdigit() else inner[parent]
    if value is ...:
        del inner[name]
    else:
        inner[name] = value
    return event


async def test_a_signed_event_is_accepted_by_each_receiver(
    partner: Any, completed: dict[str, Any], recorded: dict[str, Any]
) -> None:
    assert (await partner.deliver("analytics", completed, "d1")).status_code == 202
    assert (await partner.deliver("hr", recorded, "d1")).status_code == 202
    [entry] = await partner.received(server="analytics", outcome="accepted")
    assert entry["body"] == completed
    assert entry["facts"]["webhookId"] == "d1"
    assert entry["facts"]["userId"] == "u1"
    counts = await partner.counts("hr")
    assert (counts["requests"], counts["accepted"], counts["deliveries"]) == (1, 1, 1)


async def test_a_repeated_webhook_id_is_taken_once_and_counted(
    partner: Any, completed: dict[str, Any]
) -> None:
    statuses = [(await partner.deliver("analytics", completed, "d1")).status_code for _ in range(3)]
    assert statuses == [202, 200, 200]
    counts = await partner.counts("analytics")
    assert (counts["accepted"], counts["repeated"], counts["deliveries"]) == (1, 2, 1)
    assert counts["changedOnRepeat"] == 0
    assert counts["doubled"] == {}


async def test_a_repeat_with_another_body_shows(partner: Any, completed: dict[str, Any]) -> None:
    await partner.deliver("analytics", completed, "d1")
    answer = await partner.deliver("analytics", changed(completed, "data.score", 1), "d1")
    assert answer.status_code == 200
    assert (await partner.counts("analytics"))["changedOnRepeat"] == 1


async def test_one_completion_under_two_webhook_ids_shows_as_doubled(
    partner: Any, completed: dict[str, Any], recorded: dict[str, Any]
) -> None:
    for webhook_id in ("d1", "d2"):
        await partner.deliver("analytics", completed, webhook_id)
        await partner.deliver("hr", recorded, webhook_id)
    assert (await partner.counts("analytics"))["doubled"] == {"u1|data-101|1": 2}
    assert (await partner.counts("hr"))["doubled"] == {"u1|data-101|2026-11-22T09:00:00Z": 2}


@pytest.mark.parametrize("server", ["analytics", "hr"])
@pytest.mark.parametrize(
    "fault",
    [
        {"secret": OTHER_SECRET},
        {"age": timedelta(minutes=10)},
        {"age": timedelta(minutes=-10)},
        {"headers": {"webhook-signature": ""}},
        {"headers": {"webhook-signature": "v1"}},
        {"headers": {"webhook-signature": "v1,!!!"}},
        {"headers": {"webhook-timestamp": "yesterday"}},
        {"headers": {"webhook-id": ""}},
    ],
    ids=str,
)
async def test_a_signature_that_does_not_hold_is_refused(
    partner: Any,
    completed: dict[str, Any],
    recorded: dict[str, Any],
    server: str,
    fault: dict[str, Any],
) -> None:
    event = completed if server == "analytics" else recorded
    answer = await partner.deliver(server, event, "d1", **fault)
    assert answer.status_code == 401
    counts = await partner.counts(server)
    assert (counts["refused"], counts["deliveries"]) == (1, 0)
    [entry] = await partner.received(outcome="refused")
    assert entry["reasons"][0].startswith("webhook signature")


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("specversion", "0.3"),
        ("specversion", ...),
        ("id", ""),
        ("source", ...),
        ("type", "org.homeroom.training.recorded"),
        ("time", "yesterday"),
        ("data", ...),
        ("data", []),
        ("data.userId", ...),
        ("data.userId", ""),
        ("data.courseVersion", "1"),
        ("data.attempt", 0),
        ("data.attempt", True),
        ("data.completedAt", "2026-11-22T09:00:00"),
        ("data.completedAt", 1795338000000),
        ("data.completedAt", None),
        ("data.score", ...),
        ("data.score", 100),
        ("data.score", "1"),
        ("data.timeSpent", -1),
        ("data.timeSpent", 1.5),
        ("data.chapters", None),
        ("data.chapters.0.chapterId", ...),
        ("data.chapters.0.progress", 100.5),
        ("data.chapters.0.completed", 1),
    ],
)
async def test_a_wrong_field_of_a_finished_course_is_refused_and_named(
    partner: Any, completed: dict[str, Any], path: str, value: Any
) -> None:
    answer = await partner.deliver("analytics", changed(completed, path, value), "d1")
    assert answer.status_code == 422
    named = path.split(".0.")[0]
    assert named in answer.json()["error"]
    assert (await partner.counts("analytics"))["deliveries"] == 0


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("data.employeeId", ...),
        ("data.givenName", ...),
        ("data.courseTitle", None),
        ("data.hours", "1.5"),
        ("data.hours", -1),
        ("data.validUntil", ""),
        ("data.credentialUrl", "not a link"),
        ("data.completedAt", "22.11.2026"),
    ],
)
async def test_a_wrong_field_of_a_training_record_is_refused_and_named(
    partner: Any, recorded: dict[str, Any], path: str, value: Any
) -> None:
    answer = await partner.deliver("hr", changed(recorded, path, value), "d1")
    assert answer.status_code == 422
    assert path in answer.json()["error"]


async def test_every_missing_field_is_named_at_once(
    partner: Any, completed: dict[str, Any]
) -> None:
    await partner.deliver("analytics", completed | {"data": {}}, "d1")
    [entry] = await partner.received(outcome="refused")
    assert len(entry["reasons"]) == 8


async def test_what_is_no_json_event_is_refused(partner: Any, completed: dict[str, Any]) -> None:
    assert (await partner.deliver("analytics", b"{", "d1")).status_code == 400
    assert (await partner.deliver("analytics", b"[]", "d2")).status_code == 400
    not_a_number = b'{"data": {"score": NaN}}'
    assert (await partner.deliver("analytics", not_a_number, "d3")).status_code == 400
    as_text = {"content-type": "text/plain"}
    answer = await partner.deliver("analytics", completed, "d4", headers=as_text)
    assert answer.status_code == 415
    assert (await partner.client.get(f"{partner.url}/analytics")).status_code == 405
    assert (await partner.client.post(f"{partner.url}/analytics/events")).status_code == 404
    assert (await partner.counts("analytics"))["refused"] == 6


async def test_a_body_beyond_a_mebibyte_is_refused(partner: Any) -> None:
    answer = await partner.client.post(f"{partner.url}/analytics", content=b" " * (1 << 20) + b" ")
    assert answer.status_code == 413
    assert (await partner.counts("analytics"))["refused"] == 1
