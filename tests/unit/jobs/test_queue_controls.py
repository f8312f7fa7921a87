"""Which side of a queue's pause was changed, and which clients of Redis are workers."""

from __future__ import annotations

import pytest

from homeroom.jobs.engines.bullmq import foreign_worker_queue
from homeroom.jobs.queue_controls import PauseChange, QueueControls, merge_pause


@pytest.mark.parametrize(
    ("row", "store", "agreed", "change"),
    [
        (False, False, False, PauseChange()),
        (True, True, True, PauseChange()),
        (False, True, False, PauseChange(row=True, agreed=True)),  # paused in Bull Board
        (True, False, True, PauseChange(row=False, agreed=False)),  # resumed there
        (True, False, False, PauseChange(store=True, agreed=True)),  # paused here
        (False, True, True, PauseChange(store=False, agreed=False)),  # resumed here
        (True, True, False, PauseChange(agreed=True)),  # paused on both sides at once
        (False, False, True, PauseChange(agreed=False)),
    ],
)
def test_the_side_that_was_changed_last_decides(
    row: bool, store: bool, agreed: bool, change: PauseChange
) -> None:
    assert merge_pause(row, QueueControls(paused=store, agreed_pause=agreed)) == change


@pytest.mark.parametrize(
    ("name", "queue"),
    [
        ("{homeroom}:Y29udHJhY3Q=", "contract"),
        ("{homeroom}:Y29udHJhY3Q=:w:theirs", "contract"),
        ("{homeroom}:manager-alerts", "manager-alerts"),
        ("{homeroom}:Y29udHJhY3Q=:w:homeroom.host.1", None),
        ("{homeroom}:Y29udHJhY3Q=:qe", None),
        ("bull:Y29udHJhY3Q=", None),
        ("", None),
    ],
)
def test_workers_of_other_programs_are_known_by_their_connections(
    name: str, queue: str | None
) -> None:
    assert foreign_worker_queue(name) == queue
