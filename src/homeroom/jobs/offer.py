"""A job that another program offers through a shared queue, and whether we take it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from homeroom.db.id import is_outside_id
from homeroom.errors import HomeroomError
from homeroom.jobs.args import JobArgs, Undecodable, decode
from homeroom.jobs.handler import Registry

MADE_UP = "bull."
"""How the row ids begin of offers whose producer gave no id; they are forgotten in the end."""


class Refused(HomeroomError):
    """A job that another program added cannot be taken."""

    code = "job_refused"
    status = 422


@dataclass(frozen=True, slots=True)
class Offer:
    """What another program asks for, as far as the engine could read it."""

    kind: str
    id: str
    """The id of its row, unless its kind has natural ids."""
    version: int
    args: Mapping[str, Any]
    priority: int | None
    """1 to 10, 10 the most urgent; None: that of its kind."""


@dataclass(frozen=True, slots=True)
class Taken:
    """An offer that was found good: what its row is made of."""

    id: str
    args: JobArgs
    priority: int | None


def examine(registry: Registry, queue: str, offer: Offer) -> Taken:
    """Return what an offer's row is made of; raise ``Refused`` with what is wrong with it."""
    public = [kind for kind in registry.kinds() if registry.get(kind).args.public]
    if offer.kind not in public:
        raise Refused(
            f"{offer.kind!r} is no job kind that other programs may add; these are: "
            + ", ".join(public)
        )
    kind = registry.get(offer.kind).args
    if kind.queue != queue:
        raise Refused(f"jobs of the kind {offer.kind} belong into the queue {kind.queue!r}")
    try:
        args = decode(kind, offer.args, offer.version)
    except Undecodable as error:
        raise Refused(str(error)) from error
    job_id = args.natural_id() or offer.id
    if not is_outside_id(job_id) or ":" in job_id:
        raise Refused("a job id has 1 to 128 characters, no colon and no control character")
    return Taken(job_id, args, offer.priority)
