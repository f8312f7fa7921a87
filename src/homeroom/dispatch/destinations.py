"""Destinations: the partner systems that jobs call, their states, the switch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from homeroom.access import api as access
from homeroom.completion.api import Completions, StepBacklog
from homeroom.db.database import Database
from homeroom.db.tx import Tx
from homeroom.dispatch import store
from homeroom.errors import NotFound
from homeroom.jobs.api import count_held, move_held
from homeroom.partner import store as partner_store
from homeroom.partner.breaker import Breaker
from homeroom.partner.gate import PartnerGate
from homeroom.partner.key_expiry import PartnerKey

DestinationKind = Literal["credentials", "directory", "scores", "webhook", "lrs", "mail"]
DestinationState = Literal["on", "away", "refused", "disabled"]
"""``disabled``: it answered 410. ``away`` and ``refused``: see ``partner.breaker``."""
_NO_KEY = (None, None)


@dataclass(frozen=True, slots=True)
class DestinationProfile:
    """A destination as the settings describe it."""

    name: str
    kind: DestinationKind
    is_configured: bool
    """False: its steps are skipped, or Homeroom's own data is used."""
    rate: float
    """Waiting jobs that start per second once it is back."""
    step: str | None = None
    """The step of completions that is done there, if there is one."""
    key: PartnerKey | None = None
    """Its key, if that has a limited lifetime."""


@dataclass(frozen=True, slots=True)
class DestinationStatus:
    """A destination as it stands. Instants are microseconds UTC."""

    name: str
    kind: DestinationKind
    is_configured: bool
    rate: float
    state: DestinationState
    since: int | None
    """The instant from which it is not on."""
    failures: int
    """Failures in a row."""
    last_error: str | None
    """The error of the last failure, also once it is on again."""
    last_status: int | None
    held_jobs: int
    next_probe_at: int | None
    disabled_reason: str | None
    last_success_at: int | None
    """To the minute; None: never since this is recorded."""
    waiting_steps: int
    failed_steps: int
    outstanding_since: int | None
    """When the oldest completion was recorded whose step waits or has failed."""
    key_expires_at: int | None
    """When its key expires at the latest; None: not known, or never."""


def disabled_gate(name: str) -> str:
    """Return the gate that holds the jobs of a destination while it is disabled."""
    return f"{name}/disabled"


async def enable(tx: Tx, name: str) -> bool:
    """Enable a destination after a 410; return whether it was disabled.

    Its jobs start at the destination's rate, as after an outage.
    """
    was_disabled = await store.enable_destination(tx, name)
    if await move_held(tx, disabled_gate(name), name):
        await partner_store.get_for_update(tx, name)  # jobs of partners with a row are released
    return was_disabled


class Destinations:
    """All destinations of the settings; ``bootstrap`` builds it."""

    def __init__(
        self, db: Database, profiles: Sequence[DestinationProfile], completions: Completions
    ) -> None:
        """Use the destinations in this order."""
        self._db, self._completions = db, completions
        self.profiles = tuple(profiles)

    async def list_all(self, tx: Tx) -> list[DestinationStatus]:
        """Return the status of every destination, configured or not."""
        breakers = {breaker.name: breaker for breaker in await partner_store.list_all(tx)}
        held, disabled = await count_held(tx), await store.list_disabled(tx)
        successes = await partner_store.list_last_successes(tx)
        backlogs = await self._completions.count_backlogs(tx)
        keys = await partner_store.list_keys(tx)
        return [
            _status(
                profile,
                breakers.get(profile.name) or Breaker(profile.name),
                held.get(profile.name, 0),
                disabled.get(profile.name),
                successes.get(profile.name),
                backlogs.get(profile.step or "", StepBacklog(0, 0, None)),
                None
                if profile.key is None
                else profile.key.expiry(*keys.get(profile.name, _NO_KEY)),
            )
            for profile in self.profiles
        ]

    async def switch_on(self, name: str, actor: str) -> DestinationStatus:
        """Close a destination's breaker, and enable it after a 410; raise ``NotFound``.

        The jobs that it held start at its rate. If it still fails, it is away again after five
        failures.
        """
        if name not in {profile.name for profile in self.profiles}:
            known = ", ".join(profile.name for profile in self.profiles)
            raise NotFound(f"There is no destination {name!r}. There are: {known}.")
        async with self._db.write() as tx:
            await PartnerGate(self._db, name).switch_on(tx)
            await enable(tx, name)
            await access.record_audit(tx, actor, "destination.switched_on", name)
            return next(each for each in await self.list_all(tx) if each.name == name)


def _status(
    profile: DestinationProfile,
    breaker: Breaker,
    held_jobs: int,
    disabled: store.DisabledDestination | None,
    last_success_at: int | None,
    backlog: StepBacklog,
    key_expires_at: int | None,
) -> DestinationStatus:
    state: DestinationState = "on" if breaker.state == "closed" else breaker.state
    return DestinationStatus(
        name=profile.name,
        kind=profile.kind,
        is_configured=profile.is_configured,
        rate=profile.rate,
        state=state if disabled is None else "disabled",
        since=breaker.opened_at if disabled is None else disabled.disabled_at,
        failures=breaker.failures,
        last_error=breaker.last_error,
        last_status=breaker.last_status,
        held_jobs=held_jobs,
        next_probe_at=breaker.probe_at,
        disabled_reason=None if disabled is None else disabled.reason,
        last_success_at=last_success_at,
        waiting_steps=backlog.waiting,
        failed_steps=backlog.failed,
        outstanding_since=backlog.since,
        key_expires_at=key_expires_at,
    )
