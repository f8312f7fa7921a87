"""No loss, no double: the serving process is killed twenty times under load.

`kill -9` is what a power cut or the out-of-memory killer does: nothing of the process runs any
more. The players know only that the connection broke, and send again; the partners may have done
what they were asked without us having heard of it.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from tests.support.demo_checks import check_ledger, check_log, check_replay
from tests.support.effort import EFFORT

from homeroom.demo import comparison
from homeroom.demo.comparison import compare_results
from homeroom.demo.environment import DemoEnvironment, DemoOptions, open_environment

pytestmark = [pytest.mark.anyio, pytest.mark.fault, pytest.mark.xdist_group("fault")]

KILLS = 20 * EFFORT
LEARNERS = 40 * EFFORT
SEED = 20261122
SETTLE_SECONDS = 240 * EFFORT  # much of it for a busy machine
PATIENCE_SECONDS = 780 * EFFORT
# Partners that take their time, before the work or after it: kills then fall between what a partner
# has done and our commit.
SLOW_PARTNERS: Sequence[Mapping[str, Any]] = (
    {"server": "*", "mode": "slow", "delayMs": 300, "probability": 0.2},
    {"server": "*", "mode": "hang_after_work", "delayMs": 500, "probability": 0.2},
)


async def kill_at_random_moments(made: DemoEnvironment, dice: random.Random) -> list[int]:
    """Kill and restart the server once in every part of the play, anywhere in that part.

    Returns how many events were acknowledged by each kill. The play goes on to its next part once
    the kill was made, so that there is something to send at every one of them.
    """
    acknowledged = []
    for number in range(KILLS):
        made.players.pause_at((number + 1) / (KILLS + 1))
        # Every other time while the server still rescues what the last kill left behind: a crash
        # loop must not use up the attempts of jobs that have nothing to do with it.
        await asyncio.sleep(dice.uniform(0.0, 0.3 if number % 2 else 1.6))
        made.server.check()
        acknowledged.append(made.answers.events)
        await made.server.kill()
        await made.server.open()
    made.players.pause_at(1.0)
    return acknowledged


async def test_kills_under_load_lose_nothing_and_double_nothing(tmp_path: Path) -> None:
    options = DemoOptions(
        tmp_path,
        learners=LEARNERS,
        seed=SEED,
        port=0,
        seconds=36.0 * EFFORT,
        settings={"HOMEROOM_JOB_LEASE": "2s"},
    )
    async with asyncio.timeout(PATIENCE_SECONDS), open_environment(options) as made:
        await made.load()
        await made.inject_partner_faults(SLOW_PARTNERS)
        made.players.pause_at(0.0)
        async with asyncio.TaskGroup() as group:
            group.create_task(made.players.play(made.plan))
            killing = group.create_task(kill_at_random_moments(made, random.Random(SEED)))
        acknowledged = killing.result()
        assert len(acknowledged) == KILLS
        assert acknowledged[-1] < made.answers.events, "players went on after the last kill"
        assert len(set(acknowledged)) > KILLS // 2, "most kills met players that were sending"
        await made.add_later_chapter()
        assert await made.settle(SETTLE_SECONDS), "nothing is left active, waiting or delayed"
        read = await comparison.read_actual(made.api, made.sandbox.url, made.expected)
        lines = compare_results(made.expected, made.answers, read)
        await made.server.stop()

    assert [line for line in lines if not line.ok] == []
    assert made.answers.lost > 0, "some requests got no answer"
    interrupted = sum(read.partners[name]["unanswered"] for name in ("credly", "analytics", "hr"))
    assert interrupted > 0, "some kills fell between a partner's work and our commit"
    await check_ledger(made, made.database)
    check_log(made)
    await check_replay(made, made.database)
