"""What the sandbox can be told and asked."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest

from homeroom.sandbox.server import model_environment
from homeroom.sandbox.state import SandboxConfig

pytestmark = pytest.mark.anyio


async def test_the_counts_of_a_server_add_up(partner: Any, completed: dict[str, Any]) -> None:
    await partner.control("faults", {"server": "analytics", "mode": "status", "times": 1})
    for webhook_id in ("d1", "d1", "d1", "d2"):
        await partner.deliver("analytics", completed, webhook_id)
    await partner.deliver("analytics", b"{", "d3")
    counts = await partner.counts("analytics")
    outcomes = [counts[name] for name in ("accepted", "refused", "repeated", "failed")]
    assert outcomes == [2, 1, 1, 1]
    assert counts["requests"] == sum(outcomes)


async def test_received_is_bounded_and_the_counts_stay_exact(start_partner: Any) -> None:
    partner = await start_partner(SandboxConfig(keep=3))
    for number in range(5):
        await partner.client.get(f"{partner.url}/directory/users/u{number}")
    answer = (await partner.client.get(f"{partner.url}/control/received")).json()
    assert [item["facts"]["userId"] for item in answer["items"]] == ["u2", "u3", "u4"]
    assert answer["forgotten"] == 2
    assert (await partner.counts("directory"))["requests"] == 5


async def test_no_key_is_kept(partner: Any, order: dict[str, Any]) -> None:
    await partner.issue(order)
    answer = await partner.client.get(f"{partner.url}/control/received")
    assert partner.config.credly_token not in answer.text


async def test_a_reset_forgets_everything(partner: Any, order: dict[str, Any]) -> None:
    await partner.control("faults", {"server": "directory", "mode": "drop"})
    await partner.control("people", {"unknown": ["u1"]})
    await partner.control("scores", {"scores": [{"userId": "u1", "courseId": "c1", "score": 0}]})
    await partner.control("templates", {"templates": [{"id": "data-basics", "archived": True}]})
    await partner.control("reset", {})
    assert await partner.received() == []
    assert (await partner.client.get(f"{partner.url}/directory/users/u1")).status_code == 200
    score = await partner.client.get(f"{partner.url}/assessment/users/u1/courses/c1/score")
    assert score.json()["score"] > 0
    assert (await partner.issue(order)).status_code == 201


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("people", {"people": [{"email": None}]}),
        ("people", {"persons": []}),
        ("scores", {"scores": [{"userId": "u1", "courseId": "c1", "score": 1.5}]}),
        ("scores", {"scores": [{"userId": "u1", "courseId": "c1", "assessedAt": "today"}]}),
        ("templates", {}),
    ],
)
async def test_an_order_with_a_mistake_is_refused(partner: Any, path: str, body: Any) -> None:
    answer = await partner.client.post(f"{partner.url}/control/{path}", json=body)
    assert answer.status_code == 422


async def test_a_reset_cancels_the_work_of_a_slow_request(
    partner: Any, order: dict[str, Any]
) -> None:
    await partner.control("faults", {"server": "credly", "mode": "slow", "delayMs": 200})
    issuing = asyncio.create_task(partner.issue(order))
    faults = f"{partner.url}/control/faults"
    async with asyncio.timeout(5):
        while not (await partner.client.get(faults)).json()["items"][0]["met"]:
            pass  # each look is a request, so the sandbox gets its turn
    await partner.control("reset", {})
    with pytest.raises(httpx.TransportError):
        await issuing
    assert (await partner.counts("credly"))["badges"] == 0


async def test_an_unknown_server_or_outcome_is_refused(partner: Any) -> None:
    for query in ({"server": "library"}, {"outcome": "lost"}):
        answer = await partner.client.get(f"{partner.url}/control/received", params=query)
        assert answer.status_code == 422


async def test_the_settings_name_the_servers_that_the_index_shows(partner: Any) -> None:
    index = (await partner.client.get(partner.url)).json()["servers"]
    settings = partner.settings | model_environment(partner.url, partner.config)
    for server, url in index.items():
        assert settings[f"HOMEROOM_{server.upper()}_URL"] == url
    assert "HOMEROOM_LLM_URL" not in partner.settings, "plans are written by rule unless asked"
    assert "HOMEROOM_DIRECTORY_TOKEN" not in partner.settings


@pytest.mark.parametrize("secret", ["", "whsec_", "aGVsbG8=", "whsec_ä"])
def test_a_webhook_secret_that_verifies_nothing_is_refused(secret: str) -> None:
    with pytest.raises(ValueError, match="webhook secret"):
        SandboxConfig(webhook_secret=secret)


async def test_an_answer_does_not_wait_for_a_delayed_acknowledgement(partner: Any) -> None:
    taken = []
    for number in range(20):
        answer = await partner.client.get(f"{partner.url}/directory/users/u{number}")
        taken.append(answer.elapsed.total_seconds())
    # Linux delays an acknowledgement by 40 ms, and then every answer of a connection but the first.
    assert sorted(taken)[len(taken) // 4] < 0.03
