"""2. Clients repeat requests. The id of an event makes a repeat harmless."""

import pytest
from tests.support.basic_school import School, event

pytestmark = pytest.mark.anyio


async def test_a_repeat_counts_once(school: School) -> None:
    await school.publish("fire", "exits")
    sent = event("e1", progress=50, timeSpent=60)

    first = await school.send(sent)
    again = await school.send(sent, sent)

    assert first["accepted"] == 1
    assert (again["accepted"], again["duplicate"]) == (0, 2)
    assert (await school.progress()).time_spent == 60  # a repeat would have doubled the sum


async def test_the_same_id_with_another_body_is_a_conflict(school: School) -> None:
    await school.publish("fire", "exits")
    await school.send(event("e1", progress=50))
    assert (await school.send(event("e1", progress=90)))["conflict"] == 1
    assert (await school.progress()).progress == 5_000


async def test_a_repeat_after_a_differing_one_of_the_same_batch_is_a_duplicate(
    school: School,
) -> None:
    await school.publish("fire", "exits")
    await school.send(event("e1", progress=50))
    sent = await school.send(event("e1", progress=90), event("e1", progress=50))
    assert (sent["conflict"], sent["duplicate"]) == (1, 1)
