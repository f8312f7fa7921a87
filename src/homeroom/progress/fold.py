"""What is kept of events whose ledger rows are gone (pure): what replay starts from (rule B14)."""

from __future__ import annotations

import msgspec

from homeroom.progress.merge import ChapterState


class FoldedQuiz(msgspec.Struct, array_like=True):
    """The latest report of one quiz attempt, as ``quiz_attempt`` has it.

    It is kept as a JSON array in this order: a new field comes last, with a default.
    """

    chapter_id: str
    attempt_id: str
    scaled: int
    """Units of 1e-4."""
    threshold: int | None
    at: int
    """Microseconds UTC."""
    event_id: str


class Fold(msgspec.Struct, array_like=True):
    """What the folded events of one learner's course add up to, by the attempt that they were in.

    An attempt is named by when it opened: its number changes when an earlier reset comes late.
    """

    opened_at: int
    """Microseconds UTC; 0 for the first attempt."""
    unattributed: int
    """Seconds of events without a chapter."""
    last_at: int
    """The latest time of events without a chapter; 0 where there was none."""
    events: int
    """How many were folded."""
    time_spent: int
    """Seconds of all of them."""
    chapters: dict[str, ChapterState]
    quizzes: list[FoldedQuiz]
