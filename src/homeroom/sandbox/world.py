"""Everything that a running sandbox holds, in memory."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from homeroom.sandbox import webhook
from homeroom.sandbox.assessment import Assessment
from homeroom.sandbox.config import SandboxConfig
from homeroom.sandbox.credly import Credly
from homeroom.sandbox.directory import Directory
from homeroom.sandbox.exchange import SERVERS, Answer, Exchange, Server
from homeroom.sandbox.fault import FaultBoard
from homeroom.sandbox.ledger import Ledger
from homeroom.sandbox.mail import Mailroom


class World:
    """Hold the five servers, what they got, and what is to go wrong.

    `stopping` is set when the process ends, so that requests that hang let go.
    """

    def __init__(self, config: SandboxConfig) -> None:
        self.config = config
        self.stopping = asyncio.Event()
        self.reset()

    def reset(self) -> None:
        """Forget everything, faults included, and begin as after a start."""
        self.ledger = Ledger(self.config.keep)
        self.faults = FaultBoard(self.config.seed)
        self.mailroom = Mailroom()
        self.directory = Directory(self.config)
        self.assessment = Assessment(self.config)
        self.credly = Credly(self.config)
        self.analytics = webhook.analytics_inbox(self.config.webhook_secret)
        self.hr = webhook.hr_inbox(self.config.webhook_secret)

    def work(self, exchange: Exchange) -> Answer:
        """Let the server that was asked do its work. Raises Refused."""
        works: dict[Server, Callable[[Exchange], Answer]] = {
            "directory": self.directory.work,
            "assessment": self.assessment.work,
            "credly": self.credly.work,
            "analytics": self.analytics.work,
            "hr": self.hr.work,
        }
        return works[exchange.server](exchange)

    def summary(self) -> dict[str, Any]:
        """Count what each server got, and what it made of it."""
        made: dict[Server, dict[str, Any]] = {
            "credly": self.credly.summary(),
            "analytics": self.analytics.summary(),
            "hr": self.hr.summary(),
        }
        counted: dict[str, Any] = {
            server: self.ledger.counts(server) | made.get(server, {}) for server in SERVERS
        }
        return counted | {"mail": self.mailroom.summary()}
