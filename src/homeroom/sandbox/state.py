"""Configuration and state of a running sandbox."""

from __future__ import annotations

import asyncio
import base64
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import msgspec
from standardwebhooks.webhooks import Webhook

from homeroom.sandbox import sandbox_request, webhook
from homeroom.sandbox.credly import CredlyServer
from homeroom.sandbox.directory_and_assessment import AssessmentServer, DirectoryServer
from homeroom.sandbox.fault import FaultInjector
from homeroom.sandbox.language_model import LanguageModelServer
from homeroom.sandbox.mail import SandboxMailbox
from homeroom.sandbox.sandbox_request import (
    SERVER_NAMES,
    RequestOutcome,
    SandboxRequest,
    SandboxResponse,
    ServerName,
)

# Public on purpose: it protects nothing, and a fixed one lets two terminals agree.
_PUBLIC_SECRET = "whsec_" + base64.b64encode(b"homeroom sandbox, not a secret").decode()
# Bytes of a body that are stored: more than an event of a long course has.
_MAX_BODY_SHOWN = 1 << 16


@dataclass(frozen=True, slots=True)
class SandboxConfig:
    """Keys that the sandbox requires, and the seed of generated data.

    `webhook_secret` is `whsec_` and base64, as in Standard Webhooks. A directory or assessment
    token of None means that the server requires none. `seed` decides generated people, generated
    scores and faults with a probability. `keep` bounds the requests stored per server
    for `GET /control/received`; the counts stay exact beyond it.
    """

    webhook_secret: str = _PUBLIC_SECRET
    credly_token: str = "sandbox-credly-token"  # noqa: S105 - a key to nothing, printed at start
    organization: str = "sandbox-school"
    directory_token: str | None = None
    assessment_token: str | None = None
    llm_key: str = "sandbox-llm-key"
    llm_model: str = "sandbox-teacher"
    seed: int = 0
    keep: int = 10_000

    def __post_init__(self) -> None:
        """Check that the secret can verify a signature; raise ValueError."""
        if not self.webhook_secret.startswith("whsec_"):
            raise ValueError("The webhook secret must be whsec_ followed by base64.")
        try:
            Webhook(self.webhook_secret)
        except Exception as error:  # the library raises three unrelated kinds
            raise ValueError(f"The webhook secret cannot be decoded: {error}") from error


@dataclass(slots=True)
class LoggedRequest:
    """One request with its outcome, and whether its response could be sent.

    Headers are not stored: they carry keys.
    """

    number: int
    server: ServerName
    method: str
    path: str
    facts: dict[str, str]
    body: bytes
    outcome: RequestOutcome
    status: int | None
    reasons: tuple[str, ...] = ()
    fault: str | None = None
    answered: bool = True
    at: str = field(
        default_factory=lambda: sandbox_request.format_rfc3339(sandbox_request.utc_now())
    )

    def to_json(self) -> dict[str, Any]:
        """Return the fields of the control API."""
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


class RequestLog:
    """The latest requests of each server, and exact counts of all of them.

    Every request has one outcome: accepted, refused (with reasons), repeated (a delivery that was
    accepted before) or failed (by a fault, and not handled).
    """

    def __init__(self, keep: int) -> None:
        self._entries: dict[ServerName, deque[LoggedRequest]] = {
            server: deque(maxlen=keep) for server in SERVER_NAMES
        }
        self._counts: dict[ServerName, Counter[str]] = {
            server: Counter() for server in SERVER_NAMES
        }
        self._number = 0

    def record(
        self,
        request: SandboxRequest,
        outcome: RequestOutcome,
        status: int | None,
        *,
        reasons: tuple[str, ...] = (),
        fault: str | None = None,
    ) -> LoggedRequest:
        """Count and store a request; a status of None stands for no response."""
        self._number += 1
        entry = LoggedRequest(
            number=self._number,
            server=request.server,
            method=request.method,
            path=request.path,
            facts=request.facts,
            body=request.body[:_MAX_BODY_SHOWN],
            outcome=outcome,
            status=status,
            reasons=reasons,
            fault=fault,
        )
        self._entries[request.server].append(entry)
        self._counts[request.server].update(("requests", outcome))
        if fault is not None:
            self._counts[request.server]["faults"] += 1
        return entry

    def mark_unanswered(self, entry: LoggedRequest) -> None:
        """Record that the client did not get the response to this request."""
        if entry.answered:
            entry.answered = False
            self._counts[entry.server]["unanswered"] += 1

    def counts(self, server: ServerName) -> dict[str, int]:
        """Return the exact counts of one server; requests = the four outcomes together."""
        names = ("requests", "accepted", "refused", "repeated", "failed", "faults", "unanswered")
        return {name: self._counts[server][name] for name in names}

    def entries(self, server: ServerName | None, outcome: str | None) -> list[LoggedRequest]:
        """Return the stored requests, oldest first."""
        chosen = SERVER_NAMES if server is None else (server,)
        return sorted(
            (
                entry
                for name in chosen
                for entry in self._entries[name]
                if outcome in (None, entry.outcome)
            ),
            key=lambda entry: entry.number,
        )

    def forgotten(self, server: ServerName | None) -> int:
        """Count the requests that are no longer stored."""
        chosen = SERVER_NAMES if server is None else (server,)
        return sum(self._counts[name]["requests"] - len(self._entries[name]) for name in chosen)


class SandboxState:
    """The six servers, their request log, and the injected faults.

    `stopping` is set when the process ends, so that hanging requests end.
    """

    def __init__(self, config: SandboxConfig) -> None:
        self.config = config
        self.stopping = asyncio.Event()
        self.reset()

    def reset(self) -> None:
        """Discard all state, faults included."""
        self.ledger = RequestLog(self.config.keep)
        self.faults = FaultInjector(self.config.seed)
        self.mailbox = SandboxMailbox()
        self.directory = DirectoryServer(self.config.directory_token, self.config.seed)
        self.assessment = AssessmentServer(self.config.assessment_token, self.config.seed)
        self.credly = CredlyServer(self.config.credly_token, self.config.organization)
        self.analytics = webhook.analytics_receiver(self.config.webhook_secret)
        self.hr = webhook.hr_receiver(self.config.webhook_secret)
        self.llm = LanguageModelServer(self.config.llm_key, self.config.llm_model)

    def handle(self, request: SandboxRequest) -> SandboxResponse:
        """Pass a request to its server. Raises RequestRefused."""
        handlers: dict[ServerName, Callable[[SandboxRequest], SandboxResponse]] = {
            "directory": self.directory.handle,
            "assessment": self.assessment.handle,
            "credly": self.credly.handle,
            "analytics": self.analytics.handle,
            "hr": self.hr.handle,
            "llm": self.llm.handle,
        }
        return handlers[request.server](request)

    def summary(self) -> dict[str, Any]:
        """Return the counts of each server."""
        summaries: dict[ServerName, dict[str, Any]] = {
            "credly": self.credly.summary(),
            "analytics": self.analytics.summary(),
            "hr": self.hr.summary(),
            "llm": self.llm.summary(),
        }
        counted: dict[str, Any] = {
            server: self.ledger.counts(server) | summaries.get(server, {})
            for server in SERVER_NAMES
        }
        return counted | {"mail": self.mailbox.summary()}
