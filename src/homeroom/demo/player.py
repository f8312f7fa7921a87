"""Send a plan as players and a grader do: over HTTP, again and again until it is acknowledged."""

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

from homeroom.demo.plan import Delivery, Learner, Plan
from homeroom.errors import HomeroomError
from homeroom.outgoing import open_client

PATH = "/api/progress/enhanced-update"
CONNECTIONS = 48
REQUEST_SECONDS = 15.0
PATIENCE_SECONDS = 120.0
"""How long a player tries one delivery, through restarts of the server."""
_LONGEST_WAIT_SECONDS = 2.0
_BUSY = frozenset({429, 502, 503, 504})


class PlayFailed(HomeroomError):
    """A player was answered as none should be, or not at all."""

    code = "play_failed"


@dataclass(slots=True)
class Answers:
    """What the server said to what was sent. Only what it answered counts as acknowledged."""

    by_id: dict[str, Counter[str]] = field(default_factory=dict)
    """Every event id: how often it was answered with which status."""
    events: int = 0
    """Events in answered requests, repeats included."""
    requests: int = 0
    cuts: int = 0
    """Connections dropped on purpose."""
    lost: int = 0
    """Requests without an answer: the server was away, or the connection broke."""
    told_to_wait: int = 0

    def note(self, delivery: Delivery, answer: Mapping[str, Any]) -> None:
        """Note an answer; what it does not name was plainly accepted."""
        statuses = Counter(event["id"] for event in delivery.events)
        self.requests += 1
        self.events += len(delivery.events)
        for result in answer["results"]:
            statuses[result["id"]] -= 1
            self.by_id.setdefault(result["id"], Counter())[result["status"]] += 1
        for id, plain in statuses.items():
            if plain:
                self.by_id.setdefault(id, Counter())["accepted"] += plain

    def with_status(self, *statuses: str) -> set[str]:
        """Return the ids that were answered with one of the statuses at least once."""
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
        """Take every learner's token, the grader's key, and how long the six weeks last here."""
        self.answers = Answers()
        self._url, self._tokens, self._service_key = url, tokens, service_key
        self._seconds = seconds
        self._dice = random.Random(seed)
        self._began = 0.0
        self._until, self._let_on = 1.0, asyncio.Event()

    def hold_at(self, share: float) -> None:
        """Let no learner go beyond a share of the play; 1, the beginning, lets all go to its end.

        For tests that do something at certain moments of it, however fast the machine is.
        """
        self._until = share
        self._let_on.set()
        self._let_on = asyncio.Event()

    async def play(self, plan: Plan) -> None:
        """Send everything; return once all of it is acknowledged. Raises ``PlayFailed``."""
        self._began = asyncio.get_running_loop().time()
        limits = httpx.Limits(max_connections=CONNECTIONS, max_keepalive_connections=CONNECTIONS)
        async with open_client(
            base_url=self._url, timeout=REQUEST_SECONDS, limits=limits
        ) as client:
            try:
                async with asyncio.TaskGroup() as group:
                    for learner in plan.learners:
                        group.create_task(self._track(client, learner))
            except* PlayFailed as failed:
                raise failed.exceptions[0] from None

    async def _track(self, client: httpx.AsyncClient, learner: Learner) -> None:
        loop, held_up = asyncio.get_running_loop(), 0.0
        for delivery in learner.track:
            while delivery.at > self._until:
                await self._let_on.wait()
            # The pace is the play's own. Who was held up, by a server that was away, goes on at
            # that pace: a class does not learn faster afterwards to catch up.
            due = self._began + delivery.at * self._seconds + held_up
            await asyncio.sleep(due - loop.time())
            await self._deliver(client, delivery)
            held_up += loop.time() - due

    async def _deliver(self, client: httpx.AsyncClient, delivery: Delivery) -> None:
        loop = asyncio.get_running_loop()
        body = msgspec.json.encode({"clientId": "demo", "events": delivery.events})
        headers = {
            "content-type": "application/json",
            "authorization": f"Bearer {self._token(delivery)}",
        }
        if delivery.cut:
            await self._cut(body, headers)
        deadline, tries = loop.time() + PATIENCE_SECONDS, 0
        while True:
            tries += 1
            wait = min(_LONGEST_WAIT_SECONDS, 0.05 * 2 ** min(tries, 6)) * self._dice.random()
            try:
                response = await client.post(PATH, content=body, headers=headers)
            except httpx.TransportError as error:
                self.answers.lost += 1
                why = f"no answer ({type(error).__name__})"
            else:
                if response.status_code == httpx.codes.OK:
                    self.answers.note(delivery, response.json())
                    return
                why = f"{response.status_code} {response.text}"
                if response.status_code not in _BUSY:
                    raise PlayFailed(f"A player was answered {why}")
                self.answers.told_to_wait += 1
                wait += _retry_after(response)
            if loop.time() > deadline:
                raise PlayFailed(f"A player gave up after {tries} tries; the last one got {why}.")
            await asyncio.sleep(wait)

    def _token(self, delivery: Delivery) -> str:
        if delivery.sender == "grader":
            return self._service_key
        return self._tokens[delivery.user_id]

    async def _cut(self, body: bytes, headers: Mapping[str, str]) -> None:
        """Send a whole request and close the connection without reading the answer."""
        address = urlsplit(self._url)
        head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        request = (
            f"POST {PATH} HTTP/1.1\r\nhost: {address.netloc}\r\n{head}"
            f"content-length: {len(body)}\r\n\r\n"
        ).encode() + body
        self.answers.cuts += 1
        with suppress(OSError):  # the server may be away; the delivery is sent again anyway
            _, writer = await asyncio.open_connection(address.hostname, address.port)
            writer.write(request)
            await writer.drain()
            writer.close()
            await writer.wait_closed()


def _retry_after(response: httpx.Response) -> float:
    text = response.headers.get("retry-after", "")
    return min(float(text), _LONGEST_WAIT_SECONDS) if text.isdigit() else 0.0


def acknowledged_seconds(answers: Answers, time_spent: Mapping[str, int]) -> int:
    """Return the sum of time spent over all acknowledged events, each id once.

    ``time_spent`` is what each event id adds. Held events are acknowledged too: they are kept until
    the catalogue knows their chapter.
    """
    taken = answers.with_status("accepted", "duplicate", "quarantined")
    # One that should have been rejected adds nothing here; the check of the ids tells of it.
    return sum(time_spent.get(id, 0) for id in taken)


def doubly_accepted(answers: Answers) -> Sequence[str]:
    """Return the ids that were accepted more than once: each would have been counted twice."""
    return [id for id, each in answers.by_id.items() if each["accepted"] > 1]
