"""A learner's attempt at a course (pure)."""

from __future__ import annotations

from typing import Literal

import msgspec

Status = Literal["registered", "in_progress", "completed", "expired"]


class Enrolment(msgspec.Struct, frozen=True, gc=False):
    """One attempt of one learner at one course. Instants are microseconds UTC.

    A msgspec type, because ingest makes one of every pair of every commit: 0.08 µs each, where a
    frozen dataclass takes 1.4. ``msgspec.structs.replace`` gives a changed copy.
    """

    user_id: str
    course_id: str
    attempt: int
    """From 1; a reset or a renewal opens the next one."""
    version: int
    """The course version this attempt is pinned to."""
    status: Status
    enrolled_at: int
    opened_at: int
    """From this instant on, events belong to this attempt; 0 for the first attempt."""
    completed_at: int | None = None
    """Set once (B9)."""
    approved: bool = False
    """Somebody approved it by hand: what the criterion ``manual`` asks for."""
    carried_over: bool = False
    """It began with what the attempt before it has (B12), and not from nothing."""
