"""What a job is asked to do: one msgspec type a kind, which declares the kind's defaults (pure)."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any, ClassVar, TypeVar

import msgspec

from homeroom.jobs.backoff import Backoff

HIGH, NORMAL, LOW = 10, 5, 1
"""Priorities are 1 to 10 and 10 is the most urgent (seed 000)."""


class JobArgs(
    msgspec.Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=False
):
    """The arguments of one job kind. Subclasses add fields and set ``kind`` and ``queue``.

    A field that is added later needs a default, so that payloads of the previous version are read;
    a payload that changes shape raises ``version`` and reads the old one in ``upgrade``.
    """

    kind: ClassVar[str]
    """``feature.verb``, unique in the program."""
    queue: ClassVar[str]
    """Which queue runs it; no colons."""
    priority: ClassVar[int] = NORMAL
    max_retries: ClassVar[int] = 3
    """Attempts after the first one."""
    timeout: ClassVar[timedelta] = timedelta(seconds=60)
    backoff: ClassVar[Backoff] = Backoff()
    version: ClassVar[int] = 1
    public: ClassVar[bool] = False
    """Other programs may add jobs of this kind through a queue that they share with us."""

    def natural_id(self) -> str | None:
        """Return the id that a job with these arguments has whoever adds it; None: any."""
        return None

    @classmethod
    def upgrade(cls, payload: dict[str, object], version: int) -> dict[str, object]:
        """Return a payload of an older ``version`` in today's shape."""
        return payload


class SlotArgs(JobArgs, frozen=True, kw_only=True):
    """The arguments of a job that a schedule adds and that has to know for which of its slots."""

    schedule: str = ""
    slot: str = ""
    """The slot's name, ``2026-11-23T09:00[Europe/Berlin]``."""
    slot_at: int = 0
    """Microseconds UTC."""
    late: bool = False
    """The slot was caught up after a downtime."""
    by_hand: bool = False
    """Somebody asked for this run."""


Args = TypeVar("Args", bound=JobArgs)


class Undecodable(ValueError):
    """A payload does not fit the argument type of its kind."""


class FromTheFuture(Undecodable):
    """A payload was written by a newer release than this one."""


def decode(kind: type[Args], payload: Mapping[str, Any], version: int) -> Args:
    """Return a stored payload as arguments; raise ``Undecodable`` or ``FromTheFuture``."""
    if version > kind.version:
        raise FromTheFuture(
            f"the payload has version {version}; this release knows {kind.version} of {kind.kind}"
        )
    try:
        if version < kind.version:
            payload = kind.upgrade(dict(payload), version)
        return msgspec.convert(payload, type=kind, str_keys=True)
    except Exception as error:  # an upgrade may fail in any way; none of them can be retried
        raise Undecodable(f"the payload does not fit {kind.kind}: {error}") from error
