"""The limit of mails a minute."""

from __future__ import annotations

import asyncio

import pytest

from homeroom.clock import Clock
from homeroom.db.database import Database
from homeroom.instant import SECOND
from homeroom.notify.sending_pace import SendingPace, reserve_turn

pytestmark = [pytest.mark.anyio, pytest.mark.service]
MINUTE = 60 * SECOND


async def wait_for(db: Database, interval: int) -> int:
    async with db.write() as tx:
        return await reserve_turn(tx, interval)


async def test_turns_are_spaced_evenly_over_all_processes(db: Database, clock: Clock) -> None:
    waits = [await wait_for(db, MINUTE) for _ in range(3)]
    assert waits[0] == 0
    assert MINUTE - 10 * SECOND < waits[1] <= MINUTE
    assert 2 * MINUTE - 10 * SECOND < waits[2] <= 2 * MINUTE


async def test_a_reservation_from_before_the_clock_was_set_back_does_not_hold(
    db: Database, clock: Clock
) -> None:
    async with db.write() as tx:
        later = tx.now + 3_600 * SECOND
        await tx.execute(
            "INSERT INTO sending_pace (channel, next_at) VALUES ('email', ?)", (later,)
        )
    assert await wait_for(db, MINUTE) == 0


async def test_many_take_a_turn_one_after_another(db: Database, clock: Clock) -> None:
    pace = SendingPace(db, 60_000)  # one a millisecond
    assert all(await asyncio.gather(*(pace.take_turn() for _ in range(20))))
    async with db.read() as tx:
        [(next_at,)] = await tx.fetch("SELECT next_at FROM sending_pace")
    assert next_at > 0
