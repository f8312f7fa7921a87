"""10. Signed webhooks notify partners. The sandbox checks them as a partner does."""

import json
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest
from tests.support.basic_school import School, event
from tests.support.partner_school import Sandbox, running_sandbox

from homeroom.dispatch.api import Destination
from homeroom.dispatch.cloud_event import COURSE_COMPLETED, build_course_completed
from homeroom.dispatch.message import MessageKey
from homeroom.partner.client import open_partner_client
from homeroom.partner.failure import PartnerError

pytestmark = pytest.mark.anyio


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    async with running_sandbox() as running:
        yield running


async def test_a_partner_is_notified_and_recognises_a_repeat_by_its_id(
    school: School, sandbox: Sandbox
) -> None:
    await school.publish("fire", "exits")
    await school.send(event("e1", "chapter_complete"))
    [completion] = await school.finished()
    set_to = sandbox.settings
    key = MessageKey(completion.id, "analytics", COURSE_COMPLETED)
    id, body = key.id, json.dumps(build_course_completed(key, "https://school.example", completion))
    async with open_partner_client() as client:
        url, secret = set_to["HOMEROOM_ANALYTICS_URL"], set_to["HOMEROOM_WEBHOOK_SECRET"]
        analytics = Destination(client, "analytics", "analytics", url, [secret])
        assert (await analytics.deliver(id, body)).status == 202
        assert (await analytics.deliver(id, body)).status == 200  # the receiver has it already
        await sandbox.fault("analytics", "status", status=503, retryAfter=7)
        with pytest.raises(PartnerError) as refused:
            await analytics.deliver(id, body)
    assert refused.value.is_retriable
    assert refused.value.retry_after == timedelta(seconds=7)
    assert (await sandbox.summary("analytics"))["doubled"] == {}
