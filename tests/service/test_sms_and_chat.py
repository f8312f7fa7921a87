"""SMS and chat through Apprise, against a real HTTP service that accepts, refuses or cuts."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from homeroom.errors import ConfigurationError
from homeroom.notify.api import (
    AppriseSender,
    Channel,
    DeliveryStatus,
    OutgoingMessage,
    ReasonCode,
    RenderedMessage,
    SmtpProgress,
)

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.service,
    # a plugin of Apprise imports a module that Python 3.13 has dropped, and works without it
    pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning"),
]
MESSAGE = OutgoingMessage(
    "id", Channel.SMS, "+49 15/1", RenderedMessage("Title", "Summary.", "long", "<p>")
)


@dataclass
class Service:
    """The planned response of the service, and the requests it received."""

    status: int = 200
    cut: bool = False
    port: int = 0
    received: list[tuple[str, Any]] = field(default_factory=list)

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
        found.received.append((head.split()[1], body))
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


async def send(service: Service) -> tuple[DeliveryStatus, ReasonCode | None]:
    sender = AppriseSender("HOMEROOM_SMS_URL", service.url)
    decision = await sender.send(MESSAGE, SmtpProgress())
    return decision.status, decision.reason_code


async def test_an_accepted_message_is_sent_to_the_escaped_address(
    service: Service,
) -> None:
    assert await send(service) == (DeliveryStatus.ACCEPTED, None)
    [(path, body)] = service.received
    assert path.split("?")[0] == "/send/+49%2015%2F1"
    assert body["message"] == "Title\nSummary."


@pytest.mark.parametrize(
    ("status", "expected", "reason_code"),
    [
        (429, DeliveryStatus.PENDING, ReasonCode.TEMPORARY_FAILURE),
        (503, DeliveryStatus.PENDING, ReasonCode.TEMPORARY_FAILURE),
        (400, DeliveryStatus.FAILED, ReasonCode.MESSAGE_REFUSED),
        (500, DeliveryStatus.UNKNOWN, ReasonCode.OUTCOME_UNKNOWN),
    ],
)
async def test_a_status_code_decides_the_outcome(
    service: Service, status: int, expected: DeliveryStatus, reason_code: ReasonCode
) -> None:
    service.status = status
    assert await send(service) == (expected, reason_code)
    assert len(service.received) == 1  # the library's own retries are off


async def test_a_cut_connection_is_unknown(service: Service) -> None:
    service.cut = True
    assert await send(service) == (DeliveryStatus.UNKNOWN, ReasonCode.OUTCOME_UNKNOWN)


@pytest.mark.parametrize("url", ["json://127.0.0.1/", "nonsense://{address}", "{address}"])
def test_a_url_without_a_service_or_a_placeholder_is_refused(url: str) -> None:
    with pytest.raises(ConfigurationError, match="HOMEROOM_SMS_URL"):
        AppriseSender("HOMEROOM_SMS_URL", url)
