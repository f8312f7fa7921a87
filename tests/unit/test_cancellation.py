"""Tasks that are to end do, though a library has lost their cancellation."""

from __future__ import annotations

import asyncio

import pytest

from homeroom import cancellation

pytestmark = pytest.mark.anyio


async def test_a_task_that_lost_its_cancellation_is_cancelled_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(cancellation, "RECANCEL_SECONDS", 0.01)
    lost = []

    async def sends() -> None:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError as error:  # as asyncio.wait_for does in Python 3.11
            lost.append(error)
        await asyncio.sleep(60)

    sending = asyncio.create_task(sends())
    await asyncio.sleep(0)
    async with asyncio.timeout(10):
        await cancellation.cancel_and_wait(sending)
    assert sending.cancelled()
    assert len(lost) == 1


async def test_one_that_ends_in_order_is_left_the_time_for_it() -> None:
    said_good_bye = False

    async def works() -> None:
        nonlocal said_good_bye
        try:
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0.05)
            said_good_bye = True

    working = asyncio.create_task(works())
    await asyncio.sleep(0)
    await cancellation.cancel_and_wait(working)
    assert said_good_bye


async def test_all_of_them_have_ended_whatever_with() -> None:
    async def fails() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            raise ValueError("on the way out")

    async def returns() -> int:
        return 1

    failing, returning = asyncio.create_task(fails()), asyncio.create_task(returns())
    await asyncio.sleep(0)
    await cancellation.cancel_and_wait(failing, returning)
    await cancellation.cancel_and_wait()
    assert isinstance(failing.exception(), ValueError)
    assert returning.result() == 1
