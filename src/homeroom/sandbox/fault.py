"""Faults that tests inject into the responses of the servers."""

from __future__ import annotations

import random
from typing import Annotated, Literal

from msgspec import Meta, Struct

from homeroom.sandbox.sandbox_request import ServerName

FaultMode = Literal["status", "slow", "hang_after_work", "drop", "garbage"]


class InjectedFault(Struct, frozen=True, forbid_unknown_fields=True, rename="camel", kw_only=True):
    """A fault: its server, its mode, its number of times, and its requests.

    - `status`: respond with `status` (and `retryAfter`, seconds or an HTTP date) without handling.
    - `slow`: wait `delayMs`, then handle and respond, even if the client has timed out.
    - `hang_after_work`: handle, then do not respond until the client disconnects; with `delayMs`,
      respond after that long. It makes a badge that is issued twice visible.
    - `drop`: close the connection without a response.
    - `garbage`: respond with 200 and a body that is no JSON.

    `status`, `drop` and `garbage` come before the request is handled unless `afterWork` is true.
    A fault affects `times` requests, or all of them; with `probability` it affects a random share
    of the matching ones. `match` compares with the facts of a request (`userId`, `courseId`,
    `templateId`, `email`, `webhookId`, `method` and its other fields), as text.
    """

    server: ServerName | Literal["*"]
    mode: FaultMode
    status: Annotated[int, Meta(ge=400, le=599)] = 503
    retry_after: Annotated[int, Meta(ge=0)] | str | None = None
    delay_ms: Annotated[int, Meta(ge=0, le=3_600_000)] | None = None
    times: Annotated[int, Meta(ge=1)] | None = None
    probability: Annotated[float, Meta(gt=0, le=1)] | None = None
    match: dict[str, str | int | float] = {}
    after_work: bool = False

    @property
    def answers_after_work(self) -> bool:
        """Return whether the request is handled before the fault."""
        return self.after_work or self.mode == "hang_after_work"

    def matches(self, server: ServerName, facts: dict[str, str]) -> bool:
        """Return whether the fault applies to a request."""
        return self.server in ("*", server) and all(
            facts.get(name) == str(value) for name, value in self.match.items()
        )


class FaultInjector:
    """The injected faults, applied in the order in which they were added."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._faults: dict[int, InjectedFault] = {}
        self._left: dict[int, int] = {}
        self._met: dict[int, int] = {}
        self._number = 0

    def add(self, fault: InjectedFault) -> int:
        """Add a fault and return its number."""
        self._number += 1
        self._faults[self._number] = fault
        self._met[self._number] = 0
        if fault.times is not None:
            self._left[self._number] = fault.times
        return self._number

    def next_fault(self, server: ServerName, facts: dict[str, str]) -> InjectedFault | None:
        """Return the first fault that matches the request, and count it once."""
        for number, fault in self._faults.items():
            if self._left.get(number) == 0 or not fault.matches(server, facts):
                continue
            if fault.probability is not None and self._random.random() >= fault.probability:
                continue
            if number in self._left:
                self._left[number] -= 1
            self._met[number] += 1
            return fault
        return None

    def clear(self, server: ServerName | None = None) -> None:
        """Remove all faults, or those of one server."""
        for number, fault in list(self._faults.items()):
            if server is None or fault.server == server:
                del self._faults[number], self._met[number]
                self._left.pop(number, None)

    def to_json(self) -> list[dict[str, object]]:
        """Return the faults with the number of times they were applied and are left."""
        return [
            {"id": number, "fault": fault, "met": self._met[number], "left": self._left.get(number)}
            for number, fault in self._faults.items()
        ]
