"""Wherever the ledger is cut, and however often: progress is what it is without any cut."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from tests.effort import EFFORT
from tests.property.test_progress_order import (
    FEW,
    KINDS,
    NOW,
    Copies,
    Rows,
    _check_replay,
    _ingest,
    _lists,
    _split,
    published,
)
from tests.servers.database import database_at

from homeroom.completion.api import Completions
from homeroom.db.database import Database
from homeroom.progress.batch import Batch
from homeroom.progress.event import OPENS_ATTEMPT, Event
from homeroom.progress.retention import Folded, fold_events
from homeroom.progress.verdict import Status

__all__ = ["published"]
SECOND = 1_000_000


def _received(events: Sequence[Event]) -> list[Event]:
    """Let events be received a second after each other."""
    return [
        replace(event, received_at=NOW + number * SECOND) for number, event in enumerate(events)
    ]


async def _not_told(so_far: Folded) -> None:
    """Hear how far a fold is."""


async def _fold(db: Database, cut: int) -> int:
    """Fold all but what was received from the second ``cut`` on; return how many events went."""
    done = await fold_events(db, NOW + cut * SECOND, _not_told)
    assert done.left == 0
    return done.events


async def _ingest_and_fold(
    place: Path | str, batches: Sequence[Sequence[Event]], cuts: Sequence[int]
) -> tuple[Rows, int, int]:
    """Put batches through with a fold after each; return the rows, and how many counted and went.

    At last everything is folded but what opens attempts, and once more, which changes nothing.
    """
    db = database_at(place)
    await db.open()
    accepted = gone = 0
    try:
        for number, batch in enumerate(batches):
            async with db.write() as tx:
                verdicts = await Batch(tx, list(batch), Completions([])).run()
            accepted += [verdict.status for verdict in verdicts].count(Status.ACCEPTED)
            if cuts:
                gone += await _fold(db, cuts[number % len(cuts)])
            await _check_replay(db)
        if cuts:
            gone += await _fold(db, 1_000)
            assert await _fold(db, 1_000) == 0
        async with db.read() as tx:
            kept = await tx.fetch("SELECT type FROM progress_event")
        assert not cuts or {kind for (kind,) in kept} <= OPENS_ATTEMPT
        assert len(kept) == accepted - gone
    finally:
        await db.close()
    rows, _ = await _ingest(place, [])
    return rows, accepted, gone


def _in_copy(
    published: Copies, batches: Sequence[Sequence[Event]], cuts: Sequence[int] = ()
) -> tuple[Rows, int, int]:
    with published() as place:
        return asyncio.run(_ingest_and_fold(place, batches, cuts))


FEWER = settings(FEW, max_examples=20 * EFFORT)  # each with a database for either way
CUTS = st.lists(st.integers(0, 30), min_size=1, max_size=6)
SPLITS = st.lists(st.integers(0, 40), max_size=5)


@FEWER
@given(events=_lists(KINDS, 30), cuts=CUTS, splits=SPLITS)
def test_any_cut_of_the_ledger_leaves_progress_as_it_is(
    published: Copies, events: list[Event], cuts: list[int], splits: list[int]
) -> None:
    batches = _split(_received(events), splits)
    plain, counted, _ = _in_copy(published, batches)
    folded, counted_too, gone = _in_copy(published, batches, cuts)
    assert folded == plain
    assert counted == counted_too == gone == len(events)


@FEWER
@given(events=_lists([*KINDS, *sorted(OPENS_ATTEMPT)], 20), cuts=CUTS, splits=SPLITS)
def test_resets_that_come_in_time_open_the_attempts_that_they_open_without_a_cut(
    published: Copies, events: list[Event], cuts: list[int], splits: list[int]
) -> None:
    # At one instant a reset is the first: what is at the time of its opening belongs to an attempt.
    in_time = sorted(events, key=lambda event: (event.at, event.type not in OPENS_ATTEMPT))
    batches = _split(_received(in_time), splits)
    plain, counted, _ = _in_copy(published, batches)
    folded, counted_too, gone = _in_copy(published, batches, cuts)
    assert folded == plain
    openings = sum(event.type in OPENS_ATTEMPT for event in events)
    assert counted == counted_too == gone + openings == len(events)


@FEWER
@given(events=_lists([*KINDS, *sorted(OPENS_ATTEMPT)], 20), cuts=CUTS, splits=SPLITS)
def test_resets_that_come_late_move_folded_parts_and_lose_nothing(
    published: Copies, events: list[Event], cuts: list[int], splits: list[int]
) -> None:
    batches = _split(_received(events), splits)
    plain, _, _ = _in_copy(published, batches)
    folded, _, _ = _in_copy(published, batches, cuts)
    assert folded.courses.keys() == plain.courses.keys()
    assert _opened(folded) == _opened(plain)
    for rows in (folded, plain):
        total = sum(state.time_spent for state in rows.courses.values())
        assert total == sum(event.time_spent for event in events)


def _opened(rows: Rows) -> list[object]:
    """Return when attempts opened; how far they are is another matter."""
    return [(*row[:3], row[5]) for row in rows.enrolments]
