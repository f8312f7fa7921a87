"""What goes wrong when the sandbox is told so."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest

pytestmark = pytest.mark.anyio

SHORT_SECONDS = 0.2


async def person(partner: Any, user_id: str = "u1", **options: Any) -> httpx.Response:
    answer: httpx.Response = await partner.client.get(
        f"{partner.url}/directory/users/{user_id}", **options
    )
    return answer


async def test_a_status_is_answered_as_often_as_asked_and_nothing_is_done(
    partner: Any, order: dict[str, Any]
) -> None:
    fault = {"server": "credly", "mode": "status", "status": 503, "retryAfter": 2, "times": 2}
    await partner.control("faults", fault)
    for _ in range(2):
        answer = await partner.issue(order)
        assert answer.status_code == 503
        assert answer.headers["retry-after"] == "2"
        assert "message" in answer.json()["data"]
    assert (await partner.counts("credly"))["badges"] == 0
    assert (await partner.issue(order)).status_code == 201
    counts = await partner.counts("credly")
    assert (counts["requests"], counts["failed"], counts["accepted"]) == (3, 2, 1)


async def test_a_hang_after_the_work_leaves_a_badge_that_the_client_knows_nothing_of(
    partner: Any, order: dict[str, Any]
) -> None:
    await partner.control("faults", {"server": "credly", "mode": "hang_after_work", "times": 1})
    with pytest.raises(httpx.ReadTimeout):
        await partner.issue(order, timeout=SHORT_SECONDS)
    answer = await partner.issue(order)
    assert answer.status_code == 422
    assert "already" in answer.json()["data"]["message"]
    counts = await partner.counts("credly")
    assert counts["issued"] == [{"templateId": "data-basics", "earner": "u1", "count": 1}]


async def test_a_request_that_hung_is_known_as_unanswered_once_the_client_has_gone(
    partner: Any, completed: dict[str, Any]
) -> None:
    await partner.control("faults", {"server": "analytics", "mode": "hang_after_work", "times": 1})
    with pytest.raises(httpx.ReadTimeout):
        await partner.deliver("analytics", completed, "d1", timeout=SHORT_SECONDS)
    async with asyncio.timeout(5):
        while not (await partner.counts("analytics"))["unanswered"]:
            pass  # each look is a request, so the sandbox gets its turn
    [entry] = await partner.received(server="analytics")
    assert (entry["outcome"], entry["answered"]) == ("accepted", False)
    assert entry["fault"] == "hang_after_work"
    assert (await partner.deliver("analytics", completed, "d1")).status_code == 200
    counts = await partner.counts("analytics")
    assert (counts["accepted"], counts["repeated"]) == (1, 1)


async def test_a_hang_with_a_delay_answers_in_the_end(partner: Any, order: dict[str, Any]) -> None:
    fault = {"server": "credly", "mode": "hang_after_work", "delayMs": 100}
    await partner.control("faults", fault)
    answer = await partner.issue(order)
    assert answer.status_code == 201
    assert answer.elapsed.total_seconds() >= 0.1


async def test_a_slow_server_does_its_work_even_for_a_client_that_has_gone(
    partner: Any, order: dict[str, Any]
) -> None:
    delay_ms = round(SHORT_SECONDS * 2_000)
    await partner.control(
        "faults", {"server": "credly", "mode": "slow", "delayMs": delay_ms, "times": 1}
    )
    with pytest.raises(httpx.ReadTimeout):
        await partner.issue(order, timeout=SHORT_SECONDS)
    assert (await partner.counts("credly"))["badges"] == 0
    async with asyncio.timeout(5):
        while not (await partner.counts("credly"))["badges"]:
            pass  # each look is a request, so the sandbox gets its turn
    assert (await partner.counts("credly"))["unanswered"] == 1


async def test_a_slow_server_answers_a_patient_client(partner: Any) -> None:
    await partner.control("faults", {"server": "directory", "mode": "slow", "delayMs": 100})
    answer = await person(partner)
    assert answer.status_code == 200
    assert answer.elapsed.total_seconds() >= 0.1


async def test_a_dropped_connection_gets_no_answer_at_all(partner: Any) -> None:
    await partner.control("faults", {"server": "directory", "mode": "drop", "times": 1})
    with pytest.raises((httpx.ReadError, httpx.RemoteProtocolError)):
        await person(partner)
    [entry] = await partner.received(server="directory")
    assert (entry["outcome"], entry["status"], entry["answered"]) == ("failed", None, False)
    assert (await person(partner)).status_code == 200


async def test_a_connection_dropped_after_the_work_leaves_the_work_done(
    partner: Any, order: dict[str, Any]
) -> None:
    fault = {"server": "credly", "mode": "drop", "afterWork": True, "times": 1}
    await partner.control("faults", fault)
    with pytest.raises((httpx.ReadError, httpx.RemoteProtocolError)):
        await partner.issue(order)
    assert (await partner.counts("credly"))["badges"] == 1


async def test_garbage_is_a_success_that_is_no_json(partner: Any) -> None:
    await partner.control("faults", {"server": "directory", "mode": "garbage", "times": 1})
    answer = await person(partner)
    assert answer.status_code == 200
    with pytest.raises(ValueError, match="Expecting"):
        answer.json()


async def test_a_fault_meets_only_what_it_is_aimed_at(
    partner: Any, order: dict[str, Any], recorded: dict[str, Any]
) -> None:
    fault = {"server": "*", "mode": "status", "status": 500, "match": {"userId": "u1"}}
    await partner.control("faults", fault)
    assert (await person(partner, "u1")).status_code == 500
    assert (await person(partner, "u2")).status_code == 200
    assert (await partner.issue(order)).status_code == 500
    other = order | {"issuer_earner_id": "u2", "recipient_email": "b@example.org"}
    assert (await partner.issue(other)).status_code == 201
    assert (await partner.deliver("hr", recorded, "d1")).status_code == 500


async def test_a_fault_with_a_probability_meets_some_and_is_the_same_for_a_seed(
    partner: Any,
) -> None:
    async def play() -> list[int]:
        await partner.control("reset", {})
        fault = {"server": "directory", "mode": "status", "probability": 0.5}
        await partner.control("faults", fault)
        return [(await person(partner, f"u{number}")).status_code for number in range(60)]

    first = await play()
    assert 10 < first.count(503) < 50
    assert first.count(200) == 60 - first.count(503)
    assert await play() == first


async def test_faults_are_listed_and_taken_down(partner: Any) -> None:
    await partner.control("faults", {"server": "directory", "mode": "status", "times": 3})
    await partner.control("faults", {"server": "hr", "mode": "drop"})
    await person(partner)
    listed = (await partner.client.get(f"{partner.url}/control/faults")).json()["items"]
    assert [(item["met"], item["left"]) for item in listed] == [(1, 2), (0, None)]
    faults = f"{partner.url}/control/faults"
    left = (await partner.client.delete(faults, params={"server": "directory"})).json()["items"]
    assert [item["fault"]["server"] for item in left] == ["hr"]
    assert (await person(partner)).status_code == 200
    assert (await partner.client.delete(faults)).json() == {"items": []}


@pytest.mark.parametrize(
    "fault",
    [
        {},
        {"server": "directory"},
        {"server": "library", "mode": "status"},
        {"server": "directory", "mode": "explode"},
        {"server": "directory", "mode": "status", "status": 200},
        {"server": "directory", "mode": "status", "retry_after": 2},
        {"server": "directory", "mode": "slow", "delayMs": -1},
        {"server": "directory", "mode": "drop", "times": 0},
        {"server": "directory", "mode": "drop", "probability": 2},
    ],
    ids=str,
)
async def test_a_fault_that_makes_no_sense_is_refused(partner: Any, fault: dict[str, Any]) -> None:
    answer = await partner.client.post(f"{partner.url}/control/faults", json=fault)
    assert answer.status_code == 422
    assert answer.json()["error"]
