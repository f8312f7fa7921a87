"""Send a workload over HTTP, with retries until it is acknowledged."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import httpx
import msgspec

from homeroom.demo.workload import PlannedLearner, PlannedRequest, Workload
from homeroom.errors import HomeroomError
from homeroom.http_client import open_http_client

UPDATE_PATH = "/api/progress/enhanced-update"
CONNECTIONS = 48
REQUEST_SECONDS = 15.0
DELIVERY_TIMEOUT_SECONDS = 120.0
"""Time for one request with its retries, restarts of the server included."""
_MAX_BACKOFF_SECONDS = 2.0
_RETRYABLE_STATUSES = frozenset({429, 502, 503, 504})


class PlayFailed(HomeroomError):
    """A player got an unexpected response, or none."""

    code = "play_failed"


@dataclass(slots=True)
class AnswerTally:
    """The server's answers by event id; only answered events are acknowledged."""

    by_id: dict[str, Counter[str]] = field(default_factory=dict)
    """Answers of each status, by event id."""
    events: int = 0
    """Events in answered requests, repeats included."""
    requests: int = 0
    cuts: int = 0
    """Connections dropped on purpose."""
    lost: int = 0
    """Requests without an answer: no connection, or a broken one."""
    throttled: int = 0

    def record_answer(self, delivery: PlannedRequest, answer: Mapping[str, Any]) -> None:
        """Count an answer; events that it does not list were accepted."""
        statuses = Counter(event["id"] for event in delivery.events)
        self.requests += 1
        self.events += len(delivery.events)
        for result in answer["results"]:
            statuses[result["id"]] -= 1
            self.by_id.setdefault(result["id"], Counter())[result["status"]] += 1
        for id, accepted in statuses.items():
            if accepted:
                self.by_id.setdefault(id, Counter())["accepted"] += accepted

    def with_status(self, *statuses: str) -> set[str]:
        """Return the ids with at least one answer of one of the statuses."""
        return {id for id, each in self.by_id.items() if any(each[name] for name in statuses)}

    def count(self, status: str) -> int:
        """Count the answers of a status."""
        return sum(each[status] for each in self.by_id.values())


class Players:
    """All players of a class and the platform's grader."""

    def __init__(
        self,
        url: str,
        tokens: Mapping[str, str],
        service_key: str,
        *,
        seconds: float,
        seed: int,
    ) -> None:
        """Set up players that send the six weeks within ``seconds``."""
        self.answers = AnswerTally()
        self._url, self._tokens, self._service_key = url, tokens, service_key
        self._seconds = seconds
        self._rng = random.Random(seed)
        self._started_at = 0.0
        self._until, self._resumed = 1.0, asyncio.Event()

    def pause_at(self, share: float) -> None:
        """Pause all learners at a share of the workload; 1 is its end.

        Tests use it to act at certain points, however fast the machine is.
        """
        self._until = share
        self._resumed.set()
        self._resumed = asyncio.Event()

    async def play(self, plan: Workload) -> None:
        """Send all events until they are acknowledged. Raises ``PlayFailed``."""
        self._started_at = asyncio.get_running_loop().time()
        limits = httpx.Limits(max_connections=CONNECTIONS, max_keepalive_connections=CONNECTIONS)
        async with open_http_client(
            base_url=self._url, timeout=REQUEST_SECONDS, limits=limits
        ) as client:
            try:
                async with asyncio.TaskGroup() as group:
                    for learner in plan.learners:
                        group.create_task(self._track(client, learner))
            except* PlayFailed as failed:
                raise failed.exceptions[0] from None

    async def _track(self, client: httpx.AsyncClient, learner: PlannedLearner) -> None:
        loop, delay = asyncio.get_running_loop(), 0.0
        for delivery in learner.track:
            while delivery.at > self._until:
                await self._resumed.wait()
            # A learner that had to wait for the server continues at the same pace: a class does
            # not learn faster afterwards to catch up.
            due = self._started_at + delivery.at * self._seconds + delay
            await asyncio.sleep(due - loop.time())
            await self._deliver(client, delivery)
            delay += loop.time() - due

    async def _deliver(self, client: httpx.AsyncClient, delivery: PlannedRequest) -> None:
        loop = asyncio.get_running_loop()
        body = msgspec.json.encode({"clientId": "demo", "events": delivery.events})
        headers = {
            "content-type": "application/json",
            "authorization": f"Bearer {self._token(delivery)}",
        }
        if delivery.cut:
            await self._send_and_disconnect(body, headers)
        deadline, attempts = loop.time() + DELIVERY_TIMEOUT_SECONDS, 0
        while True:
            attempts += 1
            wait = min(_MAX_BACKOFF_SECONDS, 0.05 * 2 ** min(attempts, 6)) * self._rng.random()
            try:
                response = await client.post(UPDATE_PATH, content=body, headers=headers)
            except httpx.TransportError as error:
                self.answers.lost += 1
                reason = f"no answer ({type(error).__name__})"
            else:
                if response.status_code == httpx.codes.OK:
                    self.answers.record_answer(delivery, response.json())
                    return
                reason = f"{response.status_code} {response.text}"
                if response.status_code not in _RETRYABLE_STATUSES:
                    raise PlayFailed(f"A player got the response {reason}")
                self.answers.throttled += 1
                wait += _retry_after(response)
            if loop.time() > deadline:
                raise PlayFailed(
                    f"A request failed after {attempts} attempts; the last one got {reason}."
                )
            await asyncio.sleep(wait)

    def _token(self, delivery: PlannedRequest) -> str:
        if delivery.sender == "grader":
            return self._service_key
        return self._tokens[delivery.user_id]

    async def _send_and_disconnect(self, body: bytes, headers: Mapping[str, str]) -> None:
        """Send a whole request and close the connection without reading the answer."""
        address = urlsplit(self._url)
        head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        request = (
            f"POST {UPDATE_PATH} HTTP/1.1\r\nhost: {address.netloc}\r\n{head}"
            f"content-length: {len(body)}\r\n\r\n"
        ).encode() + body
        self.answers.cuts += 1
        with suppress(OSError):  # the server may be down; the request is sent again anyway
            _, writer = await asyncio.open_connection(address.hostname, address.port)
            writer.write(request)
            await writer.drain()
            writer.close()
            await writer.wait_closed()


def _retry_after(response: httpx.Response) -> float:
    text = response.headers.get("retry-after", "")
    return min(float(text), _MAX_BACKOFF_SECONDS) if text.isdigit() else 0.0


def acknowledged_seconds(answers: AnswerTally, time_spent: Mapping[str, int]) -> int:
    """Return the sum of time spent over all acknowledged events, each id once.

    ``time_spent`` has the seconds of each event id. Held events are acknowledged too: they wait
    until the catalogue has their chapter.
    """
    acknowledged = answers.with_status("accepted", "duplicate", "quarantined")
    # An id that should have been rejected adds nothing; the comparison of ids reports it.
    return sum(time_spent.get(id, 0) for id in acknowledged)


def ids_accepted_twice(answers: AnswerTally) -> Sequence[str]:
    """Return the ids that were accepted more than once, and counted twice."""
    return [id for id, each in answers.by_id.items() if each["accepted"] > 1]
