"""What the sandbox remembers of the requests that it got."""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass, field
from typing import Any

import msgspec

from homeroom.sandbox import wall
from homeroom.sandbox.exchange import SERVERS, Exchange, Outcome, Server

# Bytes of a body that are kept to be shown: more than an event of a long course has.
_KEPT_BODY = 1 << 16


@dataclass(slots=True)
class Entry:
    """Hold one request, how it was counted, and whether its answer could be sent.

    Headers aren't kept: they carry keys.
    """

    number: int
    server: Server
    method: str
    path: str
    facts: dict[str, str]
    body: bytes
    outcome: Outcome
    status: int | None
    reasons: tuple[str, ...] = ()
    fault: str | None = None
    answered: bool = True
    at: str = field(default_factory=lambda: wall.rfc3339(wall.now()))

    def shown(self) -> dict[str, Any]:
        """Return the entry as the control API shows it."""
        try:
            body = msgspec.json.decode(self.body) if self.body else None
        except msgspec.DecodeError:
            body = self.body.decode("utf-8", "replace")
        return {
            "number": self.number,
            "at": self.at,
            "server": self.server,
            "method": self.method,
            "path": self.path,
            "outcome": self.outcome,
            "status": self.status,
            "reasons": list(self.reasons),
            "fault": self.fault,
            "answered": self.answered,
            "facts": self.facts,
            "body": body,
        }


class Ledger:
    """Keep the last requests of each server, and exact counts of all of them.

    Every request has one outcome: accepted, refused (with reasons), repeated (a delivery that was
    accepted before) or failed (a fault was asked for, and no work was done).
    """

    def __init__(self, keep: int) -> None:
        self._entries: dict[Server, deque[Entry]] = {
            server: deque(maxlen=keep) for server in SERVERS
        }
        self._counts: dict[Server, Counter[str]] = {server: Counter() for server in SERVERS}
        self._number = 0

    def record(
        self,
        exchange: Exchange,
        outcome: Outcome,
        status: int | None,
        *,
        reasons: tuple[str, ...] = (),
        fault: str | None = None,
    ) -> Entry:
        """Count a request and keep it; a status of None is a request that gets no answer."""
        self._number += 1
        entry = Entry(
            number=self._number,
            server=exchange.server,
            method=exchange.method,
            path=exchange.path,
            facts=exchange.facts,
            body=exchange.body[:_KEPT_BODY],
            outcome=outcome,
            status=status,
            reasons=reasons,
            fault=fault,
        )
        self._entries[exchange.server].append(entry)
        self._counts[exchange.server].update(("requests", outcome))
        if fault is not None:
            self._counts[exchange.server]["faults"] += 1
        return entry

    def unanswered(self, entry: Entry) -> None:
        """Note that the client never got the answer to this request."""
        if entry.answered:
            entry.answered = False
            self._counts[entry.server]["unanswered"] += 1

    def counts(self, server: Server) -> dict[str, int]:
        """Return the exact counts of one server; requests = the four outcomes together."""
        names = ("requests", "accepted", "refused", "repeated", "failed", "faults", "unanswered")
        return {name: self._counts[server][name] for name in names}

    def entries(self, server: Server | None, outcome: str | None) -> list[Entry]:
        """Return what is kept, oldest first."""
        chosen = SERVERS if server is None else (server,)
        return sorted(
            (
                entry
                for name in chosen
                for entry in self._entries[name]
                if outcome in (None, entry.outcome)
            ),
            key=lambda entry: entry.number,
        )

    def forgotten(self, server: Server | None) -> int:
        """Count the requests that are no longer kept."""
        chosen = SERVERS if server is None else (server,)
        return sum(self._counts[name]["requests"] - len(self._entries[name]) for name in chosen)
