"""Compaction anywhere in the ledger, any number of times, changes no progress."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
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
from tests.support.database import database_at
from tests.support.effort import EFFORT

from homeroom.completion.api import Completions
from homeroom.db.database import Database
from homeroom.progress.batch import IngestBatch
from homeroom.progress.event import ATTEMPT_OPENING_TYPES, EventStatus, ProgressEvent
from homeroom.progress.ledger import CompactionResult, compact_events

__all__ = ["published"]
SECOND = 1_000_000


def _received(events: Sequence[ProgressEvent]) -> list[ProgressEvent]:
    """Return the events as received one second apart."""
    return [
        replace(event, received_at=NOW + number * SECOND) for number, event in enumerate(events)
    ]


async def _ignore_progress(so_far: CompactionResult) -> None:
    """Ignore the counts so far."""


async def _compact(db: Database, cut: int) -> int:
    """Compact the events received before second ``cut``; return their number."""
    result = await compact_events(db, NOW + cut * SECOND, _ignore_progress)
    assert result.left == 0
    return result.events


async def _ingest_and_compact(
    place: Path | str, batches: Sequence[Sequence[ProgressEvent]], cuts: Sequence[int]
) -> tuple[Rows, int, int]:
    """Ingest batches, each followed by a compaction.

    Return the rows, the accepted events and the compacted ones. At the end all events but attempt
    openings are compacted, and once more, which changes nothing.
    """
    db = database_at(place)
    await db.open()
    accepted = compacted = 0
    try:
        for number, batch in enumerate(batches):
            async with db.write() as tx:
                results = await IngestBatch(tx, list(batch), Completions([])).run()
            accepted += [result.status for result in results].count(EventStatus.ACCEPTED)
            if cuts:
                compacted += await _compact(db, cuts[number % len(cuts)])
            await _check_replay(db)
        if cuts:
            compacted += await _compact(db, 1_000)
            assert await _compact(db, 1_000) == 0
        async with db.read() as tx:
            kept = await tx.fetch("SELECT type FROM progress_event")
        assert not cuts or {kind for (kind,) in kept} <= ATTEMPT_OPENING_TYPES
        assert len(kept) == accepted - compacted
    finally:
        await db.close()
    rows, _ = await _ingest(place, [])
    return rows, accepted, compacted


def _in_copy(
    published: Copies, batches: Sequence[Sequence[ProgressEvent]], cuts: Sequence[int] = ()
) -> tuple[Rows, int, int]:
    with published() as place:
        return asyncio.run(_ingest_and_compact(place, batches, cuts))


FEWER = settings(FEW, max_examples=20 * EFFORT)  # two databases each, with and without compaction
CUTS = st.lists(st.integers(0, 30), min_size=1, max_size=6)
SPLITS = st.lists(st.integers(0, 40), max_size=5)


@FEWER
@given(events=_lists(KINDS, 30), cuts=CUTS, splits=SPLITS)
def test_any_compaction_leaves_progress_as_it_is(
    published: Copies, events: list[ProgressEvent], cuts: list[int], splits: list[int]
) -> None:
    batches = _split(_received(events), splits)
    plain, counted, _ = _in_copy(published, batches)
    compacted_rows, counted_too, gone = _in_copy(published, batches, cuts)
    assert compacted_rows == plain
    assert counted == counted_too == gone == len(events)


@FEWER
@given(events=_lists([*KINDS, *sorted(ATTEMPT_OPENING_TYPES)], 20), cuts=CUTS, splits=SPLITS)
def test_resets_in_time_open_the_same_attempts_with_and_without_compaction(
    published: Copies, events: list[ProgressEvent], cuts: list[int], splits: list[int]
) -> None:
    # A reset comes first of its instant: events at the opening time belong to the new attempt.
    in_time = sorted(events, key=lambda event: (event.at, event.type not in ATTEMPT_OPENING_TYPES))
    batches = _split(_received(in_time), splits)
    plain, counted, _ = _in_copy(published, batches)
    compacted_rows, counted_too, gone = _in_copy(published, batches, cuts)
    assert compacted_rows == plain
    openings = sum(event.type in ATTEMPT_OPENING_TYPES for event in events)
    assert counted == counted_too == gone + openings == len(events)


@FEWER
@given(events=_lists([*KINDS, *sorted(ATTEMPT_OPENING_TYPES)], 20), cuts=CUTS, splits=SPLITS)
def test_late_resets_move_snapshots_and_lose_nothing(
    published: Copies, events: list[ProgressEvent], cuts: list[int], splits: list[int]
) -> None:
    batches = _split(_received(events), splits)
    plain, _, _ = _in_copy(published, batches)
    compacted_rows, _, _ = _in_copy(published, batches, cuts)
    assert compacted_rows.courses.keys() == plain.courses.keys()
    assert _opened(compacted_rows) == _opened(plain)
    for rows in (compacted_rows, plain):
        total = sum(state.time_spent for state in rows.courses.values())
        assert total == sum(event.time_spent for event in events)


def _opened(rows: Rows) -> list[object]:
    """Return the attempts and their opening times, without their status."""
    return [(*row[:3], row[5]) for row in rows.enrolments]
