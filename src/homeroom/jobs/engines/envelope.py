"""What a job looks like in Redis, for us and for programs in Node that share its queue (pure).

The data of a job is ``{"version": 1, "args": {...}}``; one that Homeroom has put there also names
its row. Priorities are turned round: Homeroom's 10 is BullMQ's 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from homeroom.jobs.job import Job
from homeroom.jobs.offer import MADE_UP, Offer, Refused
from homeroom.jobs.redact import redact

PREFIX = "{homeroom}"
"""Before every key. The braces keep all of them in one slot of a cluster."""
MAX_DATA_BYTES = 64 * 1024
MAX_SHOWN_BYTES = 2_048
"""Larger arguments of our own jobs are left out in Redis: the row has them."""
_URGENT = 11


class _Data(msgspec.Struct, forbid_unknown_fields=True):
    version: int
    args: dict[str, Any] | None
    row: str | None = None


@dataclass(frozen=True, slots=True)
class Letter:
    """A job as it was found in Redis. ``timestamp`` is in milliseconds."""

    id: str
    name: str | None
    data: Any
    timestamp: int
    priority: int
    """As BullMQ counts; 0 for none."""


def to_redis(priority: int) -> int:
    """Return Homeroom's priority (10 first) as BullMQ's (1 first)."""
    return _URGENT - priority


def from_redis(priority: int) -> int | None:
    """Return BullMQ's priority as Homeroom's; None for a job that has none."""
    return max(_URGENT - priority, 1) if priority > 0 else None


def seal(job: Job) -> dict[str, Any]:
    """Return the data of one of our own jobs: to be looked at, the row decides."""
    args = redact(job.payload)
    if len(msgspec.json.encode(args)) > MAX_SHOWN_BYTES:
        args = None
    return {"version": job.version, "args": args, "row": job.id}


def row_id(queue: str, letter: Letter) -> str:
    """Return the id of the row that a job in Redis stands for.

    An id that its producer gave is the row's too. One that Redis counted up begins at 1 again when
    Redis is emptied, and each queue counts for itself, so it is made unique by queue and instant;
    so are those of BullMQ's repeated jobs, which hold colons.
    """
    if letter.id.isdecimal() or ":" in letter.id:
        return f"{MADE_UP}{queue}.{letter.id.replace(':', '.')}.{letter.timestamp}"
    return letter.id


def named_row(letter: Letter) -> str | None:
    """Return the row that one of our own jobs names; None for a job of somebody else."""
    data = letter.data
    row = data.get("row") if isinstance(data, Mapping) else None
    return row if isinstance(row, str) else None


def open_offer(queue: str, letter: Letter) -> Offer:
    """Read what another program asks for; raise ``Refused`` with what is wrong with it."""
    if len(msgspec.json.encode(letter.data)) > MAX_DATA_BYTES:
        raise Refused(f"the data of a job is at most {MAX_DATA_BYTES} bytes")
    try:
        data = msgspec.convert(letter.data, type=_Data, strict=True)
    except msgspec.ValidationError as error:
        raise Refused(
            f'the data of a job is {{"version": 1, "args": {{...}}}}, but this is not: {error}'
        ) from error
    if data.row is not None and data.row != letter.id:
        raise Refused(f"this is a copy of the job {data.row}; retry that one")
    if data.row is not None:
        raise Refused("Homeroom does not keep this job any longer")
    if data.args is None:
        raise Refused("args is an object, if need be an empty one")
    if data.version < 1:
        raise Refused("versions of payloads begin at 1")
    return Offer(
        kind=str(letter.name or ""),
        id=row_id(queue, letter),
        version=data.version,
        args=data.args,
        priority=from_redis(letter.priority),
    )
