"""2. Clients send again whenever they are not sure. The id of an event makes that harmless."""

import pytest
from tests.basics.school import School, event

pytestmark = pytest.mark.anyio


async def test_a_repeat_counts_once(school: School) -> None:
    await school.publish("fire", "exits")
    sent = event("e1", progress=50, timeSpent=60)

    first = await school.send(sent)
    again = await school.send(sent, sent)

    assert first["accepted"] == 1
    assert (again["accepted"], again["duplicate"]) == (0, 2)
    assert (await school.progress()).time_spent == 60  # a sum that a repeat would have doubled


async def test_the_same_id_with_another_body_is_a_conflict(school: School) -> None:
    await school.publish("fire", "exits")
    await school.send(event("e1", progress=50))
    assert (await school.send(event("e1", progress=90)))["conflict"] == 1
    assert (await school.progress()).progress == 5_000
