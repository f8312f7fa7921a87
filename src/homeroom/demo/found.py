"""Read back what Homeroom and the partner systems hold: through their APIs, as anybody would."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any

import httpx

from homeroom.demo.expect import Expected

Item = Mapping[str, Any]
_PAGE = 1_000
_AT_ONCE = 8
_UNDONE = ("waiting", "delayed", "waitingChildren", "active")
_PAUSE_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class Found:
    """Everything that was read back, as the APIs wrote it."""

    learners: dict[tuple[str, str], Item]
    """By user id and course id: the line of the list of learners."""
    progress: dict[tuple[str, str], Item]
    """The same, each read by itself, with its chapters."""
    completions: list[Item]
    dispatches: list[Item]
    queues: dict[str, Item]
    held: list[Item]
    partners: Mapping[str, Item]


async def items(api: httpx.AsyncClient, path: str, **query: str) -> AsyncIterator[Item]:
    """Yield the items of all pages of a list."""
    cursor: str | None = None
    while True:
        more = {"cursor": cursor} if cursor else {}
        answer = await api.get(path, params={"limit": str(_PAGE), **query, **more})
        answer.raise_for_status()
        page = answer.json()
        for item in page["items"]:
            yield item
        cursor = page["nextCursor"]
        if cursor is None:
            return


async def drained(api: httpx.AsyncClient, within_seconds: float) -> bool:
    """Wait until no job is left to do; return False if some are after so many seconds."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + within_seconds
    while loop.time() < deadline:
        queues = await _get(api, "/api/v1/queues")
        if not any(queue["counts"][name] for queue in queues for name in _UNDONE):
            return True
        await asyncio.sleep(_PAUSE_SECONDS)
    return False


async def read(api: httpx.AsyncClient, sandbox_url: str, expected: Expected) -> Found:
    """Read everything that can be compared with what is expected."""
    courses = sorted({course_id for _, course_id in expected.courses})
    learners: dict[tuple[str, str], Item] = {}
    for course_id in courses:
        async for item in items(api, f"/api/v1/courses/{course_id}/learners"):
            learners[item["userId"], course_id] = item
    queues = {queue["name"]: queue for queue in await _get(api, "/api/v1/queues")}
    return Found(
        learners=learners,
        progress=await _progress(api, list(learners)),
        completions=[item async for item in items(api, "/api/v1/completions")],
        dispatches=[item async for item in items(api, "/api/v1/dispatches")],
        queues=queues,
        held=[item async for item in items(api, "/api/v1/progress/quarantine")],
        partners=await _get(api, f"{sandbox_url}/control/summary"),
    )


async def _progress(
    api: httpx.AsyncClient, keys: list[tuple[str, str]]
) -> dict[tuple[str, str], Item]:
    gate = asyncio.Semaphore(_AT_ONCE)

    async def one(user_id: str, course_id: str) -> Item:
        async with gate:
            item: Item = await _get(api, f"/api/v1/courses/{course_id}/progress", userId=user_id)
            return item

    answers = await asyncio.gather(*(one(*key) for key in keys))
    return dict(zip(keys, answers, strict=True))


async def _get(api: httpx.AsyncClient, path: str, **query: str) -> Any:
    answer = await api.get(path, params=query)
    answer.raise_for_status()
    return answer.json()
