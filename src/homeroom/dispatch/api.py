"""Public interface of dispatch: send completions to partners, replay dispatches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

from homeroom.access import api as access
from homeroom.catalogue.api import Course
from homeroom.completion.api import Completion, Completions, CompletionStep, SkipReason
from homeroom.db.database import Database
from homeroom.db.tx import Tx
from homeroom.dispatch import destinations, store
from homeroom.dispatch.jobs import (
    EVENT_TYPES,
    TOPIC,
    Destination,
    FindCredentialUrl,
    MessageBuilder,
    NameDirectory,
    ReplayDispatch,
    ReplayDispatchHandler,
    SendAnalytics,
    SendDispatchHandler,
    SendHrReport,
    replay_job_id,
)
from homeroom.dispatch.store import PERSONAL, Dispatch, DispatchStatus
from homeroom.errors import NotFound
from homeroom.jobs.api import PARTNER_DELAYS, FixedDelays, Registry, enqueue

__all__ = [
    "ANALYTICS",
    "DESTINATIONS",
    "HR",
    "PERSONAL",
    "TOPIC",
    "Destination",
    "Dispatch",
    "DispatchStatus",
    "Dispatches",
    "ReplayDispatch",
    "SendAnalytics",
    "SendHrReport",
]

ANALYTICS, HR = "analytics", "hr"
DESTINATIONS = (ANALYTICS, HR)


class Dispatches:
    """All dispatches; ``bootstrap`` builds it with the settings' destinations."""

    def __init__(
        self,
        db: Database,
        *,
        source: str,
        analytics: Destination | None,
        hr: Destination | None,
        directory: NameDirectory,
        credential_url: FindCredentialUrl,
        missing_settings: dict[str, str] | None = None,
        retries: Mapping[str, FixedDelays] | None = None,
    ) -> None:
        """Use these destinations; ``missing_settings`` holds the reasons of absent ones.

        ``retries`` are those of destinations whose settings differ from the usual.
        """
        self._retries = dict.fromkeys(DESTINATIONS, PARTNER_DELAYS) | dict(retries or {})
        self._db = db
        self._destinations = {ANALYTICS: analytics, HR: hr}
        self._missing_settings = {
            ANALYTICS: "HOMEROOM_ANALYTICS_URL is not set",
            HR: "HOMEROOM_HR_URL is not set",
            **(missing_settings or {}),
        }
        self._message_builder = MessageBuilder(db, source, directory, credential_url)

    def skip_reason(self, name: str) -> SkipReason | None:
        """Return the reason to send nothing to a destination, or None."""
        if self._destinations[name] is not None:
            return None
        return SkipReason("destination_not_configured", self._missing_settings[name])

    def steps(self) -> list[CompletionStep]:
        """Return the steps that every completion has, independent of each other."""

        def skip_analytics(completion: Completion, course: Course) -> SkipReason | None:
            return self.skip_reason(ANALYTICS)

        def skip_hr(completion: Completion, course: Course) -> SkipReason | None:
            return self.skip_reason(HR)

        return [
            CompletionStep(ANALYTICS, lambda id: SendAnalytics(completion_id=id), skip_analytics),
            CompletionStep(HR, lambda id: SendHrReport(completion_id=id), skip_hr),
        ]

    def register(self, registry: Registry, completions: Completions) -> None:
        """Register the handlers of the steps and of replays."""
        for name, args, build_message in (
            (ANALYTICS, SendAnalytics, self._message_builder.build_analytics),
            (HR, SendHrReport, self._message_builder.build_hr),
        ):
            sender = SendDispatchHandler(
                self._db,
                completions,
                name,
                EVENT_TYPES[name],
                self._destinations[name],
                build_message,
                partial(self.skip_reason, name),
            )
            registry.add(
                args,
                sender.run,
                sender.on_job_change,
                is_outstanding=completions.is_step_outstanding(name),
                subject=completions.job_subject(name),
                retries=self._retries[name],
            )
        replayer = ReplayDispatchHandler(self._db, completions, self._destinations, self._retries)
        registry.add(
            ReplayDispatch,
            replayer.run,
            replayer.on_job_change,
            is_outstanding=replayer.is_outstanding,
            subject=replayer.find_subject,
        )

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
        return {name: disabled[name].reason for name in DESTINATIONS if name in disabled}

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
            retries = len(self._retries[one.destination].delays)
            args = ReplayDispatch(dispatch_id=one.id)
            await enqueue(tx, args, id=job_id, max_retries=retries)
            tx.notify(TOPIC, one.id)
