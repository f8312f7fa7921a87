"""Certificates of servers that settings name are read, and their expiry is foreseen."""

from __future__ import annotations

import asyncio
import ssl
from datetime import timedelta
from pathlib import Path

import pytest
from tests.support.condition import until_async
from tests.support.tls_server import tls_server
from tools.servers.port import free_port

from homeroom.clock import Clock
from homeroom.instant import DAY, SECOND
from homeroom.partner.certificate_expiry import (
    CertificateWatch,
    TlsServer,
    describe_certificate,
    https_servers,
    read_expiry,
)

pytestmark = [pytest.mark.anyio, pytest.mark.service]


def test_servers_are_those_of_https_urls_each_once() -> None:
    urls = ("https://a.example/x", "https://a.example:443", "https://b.example:8443", "http://c")
    assert {str(server) for server in https_servers(urls)} == {"a.example", "b.example:8443"}


@pytest.mark.parametrize("days", [5, -5])
async def test_the_expiry_of_a_certificate_is_read_expired_or_not(
    tmp_path: Path, days: int
) -> None:
    async with tls_server(tmp_path, timedelta(days=days)) as server:
        left = await read_expiry(TlsServer("127.0.0.1", server.port)) - Clock().now()
    assert abs(left - days * DAY) < 60 * SECOND


async def test_a_server_without_tls_or_without_an_answer_is_an_error() -> None:
    with pytest.raises(ConnectionRefusedError):
        await read_expiry(TlsServer("127.0.0.1", free_port()))

    async def talk(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 not TLS\r\n")
        writer.close()

    async with await asyncio.start_server(talk, "127.0.0.1", 0) as plain:
        with pytest.raises(ssl.SSLError):
            await read_expiry(TlsServer("127.0.0.1", plain.sockets[0].getsockname()[1]))


async def test_a_renewed_certificate_is_seen_and_an_outage_forgets_none(tmp_path: Path) -> None:
    async with tls_server(tmp_path, timedelta(days=5)) as server:
        peer = TlsServer("127.0.0.1", server.port)
        watch = CertificateWatch([peer], read_every_seconds=0)

        async def days_left() -> int | None:
            known = watch.known().get(peer)
            return None if known is None else round((known - Clock().now()) / DAY)

        async def is_read(days: int) -> bool:
            return await days_left() == days

        assert watch.known() == {}
        await until_async(lambda: is_read(5))
        server.renew(timedelta(days=60))
        await until_async(lambda: is_read(60))
    for _ in range(3):
        await asyncio.sleep(0.05)
        assert await is_read(60)


def test_the_sentence_names_server_day_and_days_left() -> None:
    server, now = TlsServer("hr.example"), 20_000 * DAY
    assert describe_certificate(server, now + 5 * DAY, now) == (
        "The certificate of hr.example expires on 2024-10-09, in 5 days."
    )
    assert describe_certificate(server, now - DAY, now) == (
        "The certificate of hr.example expired on 2024-10-03."
    )
