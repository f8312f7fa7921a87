"""SMS and chat through Apprise, against a real HTTP service in all its moods."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from homeroom.errors import ConfigurationError
from homeroom.notify.api import AppriseCarrier, Channel, Letter, Status, Talk, Words

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.service,
    # one of Apprise's plugins asks for a module that Python 3.13 has dropped, and does without
    pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning"),
]
LETTER = Letter("id", Channel.SMS, "+49 15/1", Words("Title", "Summary.", "long", "<p>"))


@dataclass
class Service:
    """What the service answers, and what it got."""

    status: int = 200
    cut: bool = False
    port: int = 0
    got: list[tuple[str, Any]] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"json://127.0.0.1:{self.port}/send/{{address}}"


@pytest.fixture
async def service() -> AsyncIterator[Service]:
    found = Service()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        length = next(
            int(line.split(":")[1])
            for line in head.splitlines()
            if line.lower().startswith("content-length")
        )
        body = json.loads(await reader.readexactly(length))
        found.got.append((head.split()[1], body))
        if found.cut:
            writer.transport.abort()
            return
        writer.write(f"HTTP/1.1 {found.status} x\r\ncontent-length: 0\r\n\r\n".encode())
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    found.port = server.sockets[0].getsockname()[1]
    yield found
    server.close()
    await server.wait_closed()


async def carried(service: Service) -> Status:
    verdict = await AppriseCarrier("HOMEROOM_SMS_URL", service.url).carry(LETTER, Talk())
    return verdict.status


async def test_a_message_that_is_taken_is_accepted_and_the_address_stays_one(
    service: Service,
) -> None:
    assert await carried(service) is Status.ACCEPTED
    [(path, body)] = service.got
    assert path.split("?")[0] == "/send/+49%2015%2F1"
    assert body["message"] == "Title\nSummary."


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (429, Status.PENDING),
        (503, Status.PENDING),
        (400, Status.FAILED),
        (500, Status.UNKNOWN),
    ],
)
async def test_a_refusal_is_told_from_what_may_have_been_sent(
    service: Service, status: int, expected: Status
) -> None:
    service.status = status
    assert await carried(service) is expected
    assert len(service.got) == 1  # the library's own retries are off


async def test_a_line_that_is_cut_is_unknown(service: Service) -> None:
    service.cut = True
    assert await carried(service) is Status.UNKNOWN


@pytest.mark.parametrize("url", ["json://127.0.0.1/", "nonsense://{address}", "{address}"])
def test_a_url_that_names_no_service_or_no_place_is_refused(url: str) -> None:
    with pytest.raises(ConfigurationError, match="HOMEROOM_SMS_URL"):
        AppriseCarrier("HOMEROOM_SMS_URL", url)
