"""Calls to partners: success, retriable failures and final ones."""

from __future__ import annotations

import asyncio
import gzip
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import httpx
import msgspec
import pytest

from homeroom.jobs.outcome import Fail, Retry
from homeroom.partner.client import (
    MAX_RESPONSE_BYTES,
    Partner,
    bearer_auth_header,
    open_partner_client,
)
from homeroom.partner.failure import PartnerError
from homeroom.redaction import redact_line

pytestmark = [pytest.mark.anyio, pytest.mark.service]
Serve = Callable[..., Awaitable[Partner]]


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    async with open_partner_client() as opened:
        yield opened


@pytest.fixture
async def serve(client: httpx.AsyncClient) -> AsyncIterator[Serve]:
    """Serve fixed bytes on a real socket, and return a partner that talks to it."""
    servers: list[asyncio.Server] = []
    seen: list[bytes] = []

    async def start(answer: bytes, *, stay: bool = False, **options: Any) -> Partner:
        async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                seen.append(await reader.readuntil(b"\r\n\r\n"))
                writer.write(answer)
                await writer.drain()
                if stay:
                    await reader.read()  # until the client has gone
            except (ConnectionError, asyncio.IncompleteReadError):
                pass
            finally:
                writer.close()

        server = await asyncio.start_server(talk, "127.0.0.1", 0)
        servers.append(server)
        port = server.sockets[0].getsockname()[1]
        options.setdefault("timeout", timedelta(seconds=5))
        partner = Partner(client, "the partner", f"http://127.0.0.1:{port}/api/", **options)
        partner.seen = seen  # type: ignore[attr-defined]
        return partner

    yield start
    for server in servers:
        server.close()
        await server.wait_closed()


def http(status: int, body: bytes = b"", *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status} X", f"content-length: {len(body)}", "connection: close", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


async def failure(partner: Partner) -> PartnerError:
    with pytest.raises(PartnerError) as caught:
        (await partner.call("GET", ("x",))).decode(dict)
    return caught.value


async def test_a_body_is_read_and_the_key_is_sent(serve: Serve) -> None:
    partner = await serve(http(200, b'{"a": 1}'), authorization=bearer_auth_header("key"))
    answer = await partner.call("GET", ("users", "a/b ü", ".."), query={"q": "1 2"})
    assert answer.decode(dict) == {"a": 1}
    [request] = partner.seen  # type: ignore[attr-defined]
    assert request.startswith(b"GET /api/users/a%2Fb%20%C3%BC/%2E%2E?q=1")
    assert b"authorization: Bearer key" in request.replace(b"Authorization", b"authorization")


@pytest.mark.parametrize("status", [400, 404, 409, 410, 413, 422, 451])
async def test_other_4xx_are_final(serve: Serve, status: int) -> None:
    error = await failure(await serve(http(status, b"no")))
    assert error.to_outcome() == Fail(f"the partner answered {status}: no")
    assert not error.is_outcome_unknown


@pytest.mark.parametrize("status", [401, 403, 408, 425, 429, 500, 502, 503, 504, 599])
async def test_these_are_tried_again(serve: Serve, status: int) -> None:
    error = await failure(await serve(http(status)))
    assert error.to_outcome() == Retry(f"the partner answered {status}")
    assert error.is_outcome_unknown == (status >= 500)


@pytest.mark.parametrize(
    ("value", "wait"),
    [("7", 7), ("0", None), ("86400", 3_600), ("soon", None), ("-5", None), ("1e3", None)],
)
async def test_retry_after_in_seconds_is_respected_up_to_an_hour(
    serve: Serve, value: str, wait: int | None
) -> None:
    error = await failure(await serve(http(429, b"", f"retry-after: {value}")))
    assert error.retry_after == (None if wait is None else timedelta(seconds=wait))


@pytest.mark.parametrize("status", [401, 403])
@pytest.mark.parametrize(
    ("minutes", "clause"), [(10, "10 min behind"), (-10, "10 min ahead of"), (1, None)]
)
async def test_a_refused_webhook_names_a_clock_that_is_wrong(
    serve: Serve, status: int, minutes: int, clause: str | None
) -> None:
    theirs = format_datetime(datetime.now(UTC) + timedelta(minutes=minutes), usegmt=True)
    answer = http(status, b"", f"date: {theirs}")
    error = await failure(await serve(answer, signs_time=True))
    assert isinstance(error.to_outcome(), Retry)
    assert ("clock" in error.message) is (clause is not None)
    assert (clause or "") in error.message
    assert "clock" not in (await failure(await serve(answer))).message


async def test_retry_after_may_be_a_date(serve: Serve) -> None:
    now = datetime.now(UTC)
    for ahead, low, high in ((90, 80, 90), (-90, None, None), (99_999, 3_600, 3_600)):
        date = format_datetime(now + timedelta(seconds=ahead), usegmt=True)
        error = await failure(await serve(http(503, b"", f"retry-after: {date}")))
        if low is None or high is None:
            assert error.retry_after is None
        else:
            assert error.retry_after is not None
            assert low <= error.retry_after.total_seconds() <= high


async def test_a_redirect_is_not_followed_and_final(serve: Serve) -> None:
    partner = await serve(http(307, b"", "location: http://127.0.0.1:1/elsewhere"))
    error = await failure(partner)
    assert isinstance(error.to_outcome(), Fail)
    assert "redirect" in error.message
    assert len(partner.seen) == 1  # type: ignore[attr-defined]


@pytest.mark.parametrize("body", [b"<html>", b"", b"[1]", b'{"a": ', b"\xff\xfe"])
async def test_what_cannot_be_read_is_tried_again(serve: Serve, body: bytes) -> None:
    error = await failure(await serve(http(200, body)))
    assert isinstance(error.to_outcome(), Retry)
    assert error.is_outcome_unknown


async def test_an_endless_answer_is_cut_off(serve: Serve) -> None:
    endless = http(200)[:-2].replace(b"content-length: 0\r\n", b"") + b"\r\n"
    error = await failure(await serve(endless + b"x" * (MAX_RESPONSE_BYTES + 1)))
    assert str(MAX_RESPONSE_BYTES) in error.message
    assert isinstance(error.to_outcome(), Retry)


async def test_a_compressed_answer_is_not_unpacked(serve: Serve) -> None:
    bomb = gzip.compress(b"0" * 10_000_000)
    error = await failure(await serve(http(200, bomb, "content-encoding: gzip")))
    assert "compressed" in error.message


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 200 X\r\ncontent-length: 9\r\n\r\n{"])
async def test_silence_ends_in_time_even_within_a_body(serve: Serve, answer: bytes) -> None:
    error = await failure(await serve(answer, stay=True, timeout=timedelta(seconds=0.2)))
    assert error.kind == "timed out"
    assert error.message == "the partner did not answer within 0.2 s"
    assert error.is_outcome_unknown


async def test_a_connection_that_breaks_off_may_have_done_the_work(serve: Serve) -> None:
    error = await failure(await serve(b""))
    assert (error.kind, error.is_outcome_unknown) == ("lost", True)
    assert isinstance(error.to_outcome(), Retry)


async def test_an_unreachable_partner_is_retried_and_has_done_nothing(
    client: httpx.AsyncClient,
) -> None:
    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    server = await asyncio.start_server(hang_up, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    server.close()
    await server.wait_closed()
    error = await failure(Partner(client, "the partner", f"http://127.0.0.1:{port}"))
    assert (error.kind, error.is_outcome_unknown) == ("unreachable", False)
    assert isinstance(error.to_outcome(), Retry)


async def test_an_excerpt_holds_no_address_and_no_key(serve: Serve) -> None:
    body = msgspec.json.encode(
        {
            "message": "ada@example.org and ada%40example.org have one; token s3cret-key,"
            " Bearer abc.def, whsec_abcdef\r\nnext line " + "x" * 5_000
        }
    )
    partner = await serve(http(422, body), authorization=bearer_auth_header("s3cret-key"))
    error = await failure(partner)
    for hidden in ("ada", "s3cret", "abc.def", "whsec_abc", "\n"):
        assert hidden not in error.message
    assert "have one" in error.message
    assert len(error.message) < 300


def test_words_of_any_length_are_cut_and_lose_addresses() -> None:
    assert redact_line("no user x.y@example.org here") == "no user x***@example.org here"
    assert redact_line("a" * 1_000_000) == "a" * 199 + "…"


async def test_a_connection_that_is_lost_as_soon_as_it_is_made_has_done_nothing() -> None:
    """On uvloop it is now and then an AttributeError of anyio."""

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        opened = writer.get_extra_info("socket")
        linger = struct.pack("ii", 1, 0)  # closed with a reset
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        writer.close()

    server = await asyncio.start_server(refuse, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server:
        for _ in range(200):
            async with open_partner_client() as client:
                partner = Partner(
                    client,
                    "the partner",
                    f"http://127.0.0.1:{port}/",
                    timeout=timedelta(seconds=5),
                )
                assert (await failure(partner)).is_retriable
