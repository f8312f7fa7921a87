"""Call a partner system over HTTP; classify each failure as retriable or final.

2xx is success. 401, 403, 408, 425, 429, every 5xx, a time-out, a lost connection and an unreadable
response may be retried; every other status is final (docs/partners.md). 401 and 403 may be retried
because keys and clocks are corrected. ``Retry-After`` is respected up to an hour.
Redirects are not followed: a webhook's body goes to the configured URL alone.
"""

from __future__ import annotations

import asyncio
import base64
import logging
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any, TypeVar
from urllib.parse import quote

import httpx
import msgspec

from homeroom import http_client
from homeroom.clock import Clock
from homeroom.instant import to_datetime
from homeroom.partner.failure import PartnerError
from homeroom.partner.gate import PartnerGate
from homeroom.redaction import redact_line
from homeroom.tracing import Tracer

PARTNER_TIMEOUT = timedelta(seconds=10)
WEBHOOK_TIMEOUT = timedelta(seconds=15)
MAX_RESPONSE_BYTES = 1024 * 1024
MAX_RETRY_AFTER = timedelta(hours=1)
MAX_CLOCK_SKEW = timedelta(minutes=2)
"""Difference of clocks that explains a 401 or 403 of a webhook; receivers allow about 5 minutes."""
_EXCERPT_BYTES = 4_096
_RETRIABLE_STATUSES = frozenset({401, 403, 408, 425, 429})
_REFUSALS = frozenset({401, 403})

ResponseType = TypeVar("ResponseType")


@dataclass(frozen=True, slots=True)
class PartnerResponse:
    """A partner's response with an expected status."""

    partner: str
    status: int
    body: bytes

    def decode(self, shape: type[ResponseType]) -> ResponseType:
        """Return the body as a type; raise a retriable ``PartnerError`` otherwise."""
        try:
            return msgspec.json.decode(self.body, type=shape)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            # msgspec names the field and its type, never the value.
            raise PartnerError(
                f"{self.partner} sent an unreadable response with status {self.status}:"
                f" {redact_line(str(error))}",
                kind="unreadable",
            ) from None


def open_partner_client(tracer: Tracer | None = None) -> httpx.AsyncClient:
    """Return the one client that all partners share; the caller closes it.

    httpx logs whole URLs, which may hold an e-mail address, so its log level is raised. Proxies and
    ``.netrc`` of the environment are not used: every setting is one of Homeroom's.
    """
    for name in ("httpx", "httpcore"):
        logging.getLogger(name).setLevel(logging.WARNING)
    return http_client.open_http_client(
        headers={"accept-encoding": "identity", "user-agent": "homeroom"},
        tracer=tracer,
    )


def basic_auth_header(user: str, password: str = "") -> str:
    """Return the Authorization header of Basic authentication."""
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def bearer_auth_header(token: str | None) -> str | None:
    """Return the Authorization header of a bearer token, or None without one."""
    return None if token is None else f"Bearer {token}"


def encode_json(message: Any) -> bytes:
    """Return a message as the JSON bytes that are sent."""
    return msgspec.json.encode(message)


class Partner:
    """One partner system: its name in messages, its URL and its key."""

    def __init__(
        self,
        client: httpx.AsyncClient,
        name: str,
        url: str,
        *,
        authorization: str | None = None,
        timeout: timedelta = PARTNER_TIMEOUT,
        secrets: Collection[str] = (),
        signs_time: bool = False,
        gate: PartnerGate | None = None,
        takes_orders: bool = False,
    ) -> None:
        """Use the shared client; ``timeout`` covers a call from first to last byte.

        ``secrets`` are hidden in every message, as is ``authorization``. With ``signs_time`` a
        request holds the time, so that a 401 or 403 names a clock that is wrong. Without a
        ``gate`` calls are made whether the partner is away or not. ``takes_orders``: a lookup that
        succeeds does not show that the partner is back, because orders may fail all the same.
        """
        self.name = name
        self._client = client
        self._url = url.rstrip("/")
        self._authorization = authorization
        self.timeout_seconds = timeout.total_seconds()
        self._signs_time, self._gate = signs_time, gate
        self._takes_orders = takes_orders
        own = () if authorization is None else (authorization.partition(" ")[2], authorization)
        self._secrets = tuple(secret for secret in (*secrets, *own) if secret)

    async def call(
        self,
        method: str,
        path: Sequence[str] = (),
        *,
        query: Mapping[str, str] | None = None,
        content: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        expect: Collection[int] = (),
        is_gated: bool = True,
    ) -> PartnerResponse:
        """Send one request; return a response that is 2xx or has a status of ``expect``.

        ``path`` is the parts below the URL, each escaped here. Raises ``PartnerError``, and
        ``PartnerAway`` where no call was made. Without ``is_gated`` the call is made in any case,
        and its end is not recorded.
        """
        if self._gate is None or not is_gated:
            return await self._send(method, path, query, content, headers, expect)
        admission = await self._gate.admit(self.name)
        try:
            response = await self._send(method, path, query, content, headers, expect)
        except PartnerError as error:
            await self._gate.record_failure(error)
            raise
        is_proof = method != "GET" or not self._takes_orders
        await self._gate.record_success(admission, is_proof=is_proof)
        return response

    async def _send(
        self,
        method: str,
        path: Sequence[str],
        query: Mapping[str, str] | None,
        content: bytes | None,
        headers: Mapping[str, str] | None,
        expect: Collection[int],
    ) -> PartnerResponse:
        url = "/".join((self._url, *(_escape_path_part(part) for part in path)))
        sent = {"accept": "application/json", **(headers or {})}
        if content is not None:
            sent.setdefault("content-type", "application/json")
        if self._authorization is not None:
            sent["authorization"] = self._authorization
        try:
            async with asyncio.timeout(self.timeout_seconds):
                request = self._client.build_request(
                    method,
                    url,
                    params=query,
                    content=content,
                    headers=sent,
                    timeout=self.timeout_seconds,
                )
                response = await self._client.send(request, stream=True)
                try:
                    body = await self._read_body(response)
                finally:
                    await response.aclose()
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout) as error:
            reason = self.redact(str(error)) or "no connection in time"
            message = f"{self.name} cannot be reached: {reason}"
            raise PartnerError(message, kind="unreachable") from None
        except (TimeoutError, httpx.TimeoutException):
            message = f"{self.name} did not answer within {self.timeout_seconds:g} s"
            raise PartnerError(message, kind="timed out") from None
        except (httpx.TransportError, httpx.StreamError) as error:
            reason = self.redact(str(error)) or type(error).__name__
            message = f"{self.name} broke the connection off: {reason}"
            raise PartnerError(message, kind="lost") from None
        except (httpx.InvalidURL, UnicodeError):
            message = f"{self.name} has a URL that cannot be used"
            raise PartnerError(message, kind="misconfigured", is_retriable=False) from None
        if response.status_code // 100 == 2 or response.status_code in expect:
            return PartnerResponse(self.name, response.status_code, body)
        raise self._status_error(response, body)

    def redact(self, text: str) -> str:
        """Return text for a message: one short line without secrets and e-mail addresses."""
        return redact_line(text, self._secrets)

    def excerpt(self, body: bytes) -> str | None:
        """Return the beginning of a response's body for people, or None for an empty one."""
        return self.redact(body[:_EXCERPT_BYTES].decode("utf-8", "replace")) or None

    async def _read_body(self, response: httpx.Response) -> bytes:
        body = bytearray()
        if response.headers.get("content-encoding", "identity").lower() != "identity":
            raise PartnerError(
                f"{self.name} answered {response.status_code} compressed though not asked to",
                kind="unreadable",
            )
        async for chunk in response.aiter_raw():
            body += chunk
            if len(body) > MAX_RESPONSE_BYTES:
                raise PartnerError(
                    f"{self.name} answered {response.status_code} with more than"
                    f" {MAX_RESPONSE_BYTES} bytes",
                    kind="unreadable",
                )
        return bytes(body)

    def _status_error(self, response: httpx.Response, body: bytes) -> PartnerError:
        status = response.status_code
        excerpt = self.excerpt(body)
        message = f"{self.name} answered {status}" + (f": {excerpt}" if excerpt else "")
        if status // 100 == 3:
            message = f"{self.name} answered {status}, a redirect, which is not followed"
        if self._signs_time and status in _REFUSALS:
            message += _describe_clock_skew(response.headers.get("date"))
        is_retriable = status in _RETRIABLE_STATUSES or status >= 500
        retry_after = (
            _parse_retry_after(response.headers.get("retry-after")) if is_retriable else None
        )
        return PartnerError(
            message,
            kind="refused",
            response_status=status,
            is_retriable=is_retriable,
            retry_after=retry_after,
        )


def _escape_path_part(part: str) -> str:
    """Escape one part of a path; ``.`` and ``..`` too, which would change the path."""
    return part.replace(".", "%2E") if part in {".", ".."} else quote(part, safe="")


def _parse_http_date(value: str | None) -> datetime | None:
    try:
        moment = parsedate_to_datetime(value or "")
    except (TypeError, ValueError):
        return None
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment


def _describe_clock_skew(date: str | None) -> str:
    """Return a clause about a clock that differs from the partner's, else no text."""
    theirs = _parse_http_date(date)
    if theirs is None:
        return ""
    # The partner's date is in real time; Homeroom's clock may be moved for the demo.
    ahead = to_datetime(Clock().now()) - theirs
    if abs(ahead) <= MAX_CLOCK_SKEW:
        return ""
    direction = "ahead of" if ahead > timedelta() else "behind"
    minutes = round(abs(ahead) / timedelta(minutes=1))
    return (
        f"; this machine's clock is {minutes} min {direction} the partner's, so the partner may"
        " refuse the signature: synchronize the clocks"
    )


def _parse_retry_after(value: str | None) -> timedelta | None:
    """Parse ``Retry-After`` (RFC 9110, 10.2.3): seconds or a date, None otherwise.

    Zero, or a date that has passed, leaves the wait to the job's own backoff.
    """
    if value is None:
        return None
    text = value.strip()
    if re.fullmatch(r"[0-9]{1,12}", text):
        wait = timedelta(seconds=int(text))
    else:
        moment = _parse_http_date(text)
        if moment is None:
            return None
        # The partner's date is in real time; Homeroom's clock may be moved for the demo.
        wait = moment - to_datetime(Clock().now())
    return min(wait, MAX_RETRY_AFTER) if wait > timedelta() else None
