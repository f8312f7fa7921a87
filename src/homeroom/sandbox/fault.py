"""What goes wrong on request: which fault meets which request."""

from __future__ import annotations

import random
from typing import Annotated, Literal

from msgspec import Meta, Struct

from homeroom.sandbox.exchange import Server

Mode = Literal["status", "slow", "hang_after_work", "drop", "garbage"]


class Fault(Struct, frozen=True, forbid_unknown_fields=True, rename="camel", kw_only=True):
    """Describe a fault: where, what, how often, and whom it meets.

    - `status`: answer `status` (with `retryAfter` seconds or an HTTP date) instead of working.
    - `slow`: wait `delayMs`, then work and answer, even if the client has given up by then.
    - `hang_after_work`: work, then don't answer until the client has gone; with `delayMs`,
      answer after that long. This is what makes a double issue visible.
    - `drop`: close the connection without an answer.
    - `garbage`: answer 200 with something that is no JSON.

    `status`, `drop` and `garbage` come before the work unless `afterWork` is true.
    A fault holds `times` requests, or for ever; with `probability` it meets each request that
    matches by chance. `match` compares with the facts of a request (`userId`, `courseId`,
    `templateId`, `email`, `webhookId`, `method` and what else it carries), as text.
    """

    server: Server | Literal["*"]
    mode: Mode
    status: Annotated[int, Meta(ge=400, le=599)] = 503
    retry_after: Annotated[int, Meta(ge=0)] | str | None = None
    delay_ms: Annotated[int, Meta(ge=0, le=3_600_000)] | None = None
    times: Annotated[int, Meta(ge=1)] | None = None
    probability: Annotated[float, Meta(gt=0, le=1)] | None = None
    match: dict[str, str | int | float] = {}
    after_work: bool = False

    @property
    def works_first(self) -> bool:
        """Say whether the work is done although the answer goes wrong."""
        return self.after_work or self.mode == "hang_after_work"

    def meets(self, server: Server, facts: dict[str, str]) -> bool:
        """Say whether a request is one that this fault is aimed at."""
        return self.server in ("*", server) and all(
            facts.get(name) == str(value) for name, value in self.match.items()
        )


class FaultBoard:
    """Hold the faults that were asked for, and hand them out in the order of their asking."""

    def __init__(self, seed: int) -> None:
        self._dice = random.Random(seed)
        self._faults: dict[int, Fault] = {}
        self._left: dict[int, int] = {}
        self._met: dict[int, int] = {}
        self._number = 0

    def add(self, fault: Fault) -> int:
        """Put up a fault and return its number."""
        self._number += 1
        self._faults[self._number] = fault
        self._met[self._number] = 0
        if fault.times is not None:
            self._left[self._number] = fault.times
        return self._number

    def draw(self, server: Server, facts: dict[str, str]) -> Fault | None:
        """Return the first fault that meets the request, and use it up once."""
        for number, fault in self._faults.items():
            if self._left.get(number) == 0 or not fault.meets(server, facts):
                continue
            if fault.probability is not None and self._dice.random() >= fault.probability:
                continue
            if number in self._left:
                self._left[number] -= 1
            self._met[number] += 1
            return fault
        return None

    def clear(self, server: Server | None = None) -> None:
        """Take down all faults, or those of one server."""
        for number, fault in list(self._faults.items()):
            if server is None or fault.server == server:
                del self._faults[number], self._met[number]
                self._left.pop(number, None)

    def shown(self) -> list[dict[str, object]]:
        """List the faults with how often each was met and how often it still will be."""
        return [
            {"id": number, "fault": fault, "met": self._met[number], "left": self._left.get(number)}
            for number, fault in self._faults.items()
        ]
