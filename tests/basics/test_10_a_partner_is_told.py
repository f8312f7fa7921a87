"""10. Partner systems are told by signed webhooks. The sandbox checks them as a partner would."""

import json
from collections.abc import AsyncIterator

import pytest
from tests.basics.school import School, event
from tests.service.partner_school import Sandbox, running_sandbox

from homeroom.db.id import new_id
from homeroom.dispatch.api import Destination
from homeroom.dispatch.message import course_completed
from homeroom.partner import PartnerError, open_client

pytestmark = pytest.mark.anyio


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    async with running_sandbox() as running:
        yield running


async def test_a_partner_is_told_and_a_repeat_is_known_by_its_id(
    school: School, sandbox: Sandbox
) -> None:
    await school.publish("fire", "exits")
    await school.send(event("e1", "chapter_complete"))
    [completion] = await school.finished()
    id, set_to = new_id(), sandbox.settings
    body = json.dumps(course_completed(id, "https://school.example", completion))
    async with open_client() as client:
        url, secret = set_to["HOMEROOM_ANALYTICS_URL"], set_to["HOMEROOM_WEBHOOK_SECRET"]
        analytics = Destination(client, "analytics", "analytics", url, secret)
        assert await analytics.deliver(id, body) == 202
        assert await analytics.deliver(id, body) == 200  # the receiver has it already
        await sandbox.fault("analytics", "status", status=503, retryAfter=7)
        with pytest.raises(PartnerError) as refused:
            await analytics.deliver(id, body)
    assert (refused.value.again, refused.value.after and refused.value.after.seconds) == (True, 7)
    assert (await sandbox.summary("analytics"))["doubled"] == {}
