"""Public interface of dispatch: send completions to partners, replay dispatches."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

from homeroom.access import api as access
from homeroom.completion.api import Completions, StepState
from homeroom.db.database import Database
from homeroom.db.tx import Tx
from homeroom.dispatch import destinations, store
from homeroom.dispatch.jobs import (
    TOPIC,
    ReplayDispatch,
    SendAnalytics,
    SendHrReport,
    UpdateDispatch,
    replay_job_id,
)
from homeroom.dispatch.message import Delivered, MessageKey, MessageReceiver
from homeroom.dispatch.message_step import MessageStep
from homeroom.dispatch.replay import ReplayDispatchHandler, UpdateDispatchHandler
from homeroom.dispatch.store import PERSONAL, Dispatch, DispatchStatus
from homeroom.dispatch.webhook import Destination
from homeroom.errors import Conflict, Invalid, NotFound, Unavailable
from homeroom.jobs.api import PARTNER_DELAYS, FixedDelays, Registry, enqueue
from homeroom.partner.client import Partner
from homeroom.partner.failure import PartnerError

__all__ = [
    "ANALYTICS",
    "HR",
    "PERSONAL",
    "TOPIC",
    "Delivered",
    "Destination",
    "Dispatch",
    "DispatchStatus",
    "Dispatches",
    "MessageKey",
    "MessageReceiver",
    "MessageStep",
    "ReplayDispatch",
    "SendAnalytics",
    "SendHrReport",
    "XapiConfig",
]

ANALYTICS, HR = "analytics", "hr"
FindCredentialUrl = Callable[[Tx, str], Awaitable[str | None]]
"""Return the public URL of a completion's credential, or None while there is none."""


@dataclass(frozen=True, slots=True)
class XapiConfig:
    """The settings of the learning record store."""

    store: Partner | None
    """Its client, whose URL is the one above ``/statements``; None: no URL is set."""
    source: str
    """Homeroom's public URL."""
    retries: FixedDelays
    rate: float


class Dispatches:
    """All dispatches; ``bootstrap`` builds it with the settings' webhooks."""

    def __init__(
        self,
        db: Database,
        *,
        source: str,
        analytics: Destination | None,
        hr: Destination | None,
        credential_url: FindCredentialUrl,
        missing_settings: dict[str, str] | None = None,
        retries: Mapping[str, FixedDelays] | None = None,
        rates: Mapping[str, float] | None = None,
    ) -> None:
        """Use these webhooks; ``missing_settings`` holds the reasons of absent ones.

        ``retries`` and ``rates`` are those of webhooks whose settings differ from the usual.
        ``source`` is Homeroom's public URL, that of the CloudEvents.
        """
        self._db = db
        self.source, self.credential_url = source, credential_url
        self.webhooks = {ANALYTICS: analytics, HR: hr}
        self.webhook_retries = dict.fromkeys(self.webhooks, PARTNER_DELAYS) | dict(retries or {})
        self.rates = dict(rates or {})
        self.missing_settings = {
            ANALYTICS: "HOMEROOM_ANALYTICS_URL is not set",
            HR: "HOMEROOM_HR_URL is not set",
            **(missing_settings or {}),
        }
        self.steps: dict[str, MessageStep] = {}
        """The steps that send messages, by name, each of which is a destination."""

    async def send_test(self, name: str, actor: str) -> int:
        """Post a signed test message to a webhook; return the status of the answer.

        Raises ``NotFound`` for another name, ``Conflict`` where it is not configured, and
        ``Unavailable`` with the reason where the message was not accepted.
        """
        if name not in self.webhooks:
            raise NotFound(
                f"There are no webhooks to {name!r}. There are: {', '.join(self.webhooks)}."
            )
        destination = self.webhooks[name]
        if destination is None:
            raise Conflict(
                f"Nothing is sent to {name}: {self.missing_settings[name]}.",
                hint="Set HOMEROOM_WEBHOOK_SECRET and the URL, then restart Homeroom.",
            )
        async with self._db.write() as tx:
            await access.record_audit(tx, actor, "destination.tested", name)
        try:
            return await destination.send_test(self.source)
        except PartnerError as error:
            raise Unavailable(f"The test message was not accepted: {error.message}") from error

    def register(
        self, registry: Registry, completions: Completions, steps: Sequence[MessageStep]
    ) -> None:
        """Set the steps that send messages; register replays and updates."""
        self.steps.update((step.name, step) for step in steps)

        async def on_step_ended(tx: Tx, ended: StepState) -> None:
            for step in self.steps.values():
                await step.on_step_ended(tx, ended)

        completions.on_step_ended.append(on_step_ended)
        replayer = ReplayDispatchHandler(self._db, completions, self.steps)
        registry.add(
            ReplayDispatch,
            replayer.run,
            replayer.on_job_change,
            is_outstanding=replayer.is_outstanding,
            subject=replayer.find_subject,
        )
        updater = UpdateDispatchHandler(self._db, completions, self.steps)
        registry.add(
            UpdateDispatch,
            updater.run,
            updater.on_job_change,
            is_outstanding=updater.is_outstanding,
            subject=updater.find_subject,
        )

    def check_destination(self, name: str | None) -> None:
        """Raise ``Invalid`` for a name that is no step that sends messages."""
        if name is not None and name not in self.steps:
            known = ", ".join(self.steps)
            raise Invalid(f"There is no destination {name!r}; the destinations are {known}.")

    async def get(self, tx: Tx, id: str) -> Dispatch:
        """Return a dispatch; raise ``NotFound``."""
        known = await store.get(tx, id)
        if known is None:
            raise NotFound(f"There is no dispatch {id!r}.")
        return known

    async def list_newest(
        self,
        tx: Tx,
        destination: str | None,
        status: str | None,
        before: tuple[int, str] | None,
        count: int,
        *,
        completion_id: str | None = None,
        user_id: str | None = None,
        since: int | None = None,
    ) -> list[Dispatch]:
        """Return dispatches by (created_at, id), newest first, before such a pair.

        ``since`` is the earliest ``created_at``.
        """
        return await store.list_newest(
            tx,
            destination,
            status,
            before,
            count,
            completion_id=completion_id,
            user_id=user_id,
            since=since,
        )

    async def list_disabled(self, tx: Tx) -> dict[str, str]:
        """Return the destinations that are switched off, with their reasons."""
        disabled = await store.list_disabled(tx)
        return {name: disabled[name].reason for name in sorted(disabled)}

    async def replay(self, id: str, actor: str) -> Dispatch:
        """Send a dispatch again with the same id and body; switch its destination on.

        Raises ``NotFound``.
        """
        async with self._db.write() as tx:
            known = await self.get(tx, id)
            await access.record_audit(tx, actor, "dispatch.replayed", id)
            await self.replay_all(tx, [known], actor)
            return await self.get(tx, id)

    async def replay_all(self, tx: Tx, dispatches: Sequence[Dispatch], actor: str) -> None:
        """Enqueue the replays of dispatches; switch their destinations on."""
        for name in sorted({one.destination for one in dispatches}):
            if await destinations.enable(tx, name):
                await access.record_audit(tx, actor, "destination.switched_on", name)
        for one in dispatches:
            await store.record_replay(tx, one.id)
            job_id = replay_job_id(one.id, one.replays + 1)
            step = self.steps.get(one.destination)
            retries = len((PARTNER_DELAYS if step is None else step.delays).delays)
            args = ReplayDispatch(dispatch_id=one.id)
            await enqueue(tx, args, id=job_id, max_retries=retries)
            tx.notify(TOPIC, one.id)
