"""Call a partner system over HTTP, and say of every answer whether trying again can help.

2xx is an answer. 408, 425, 429, every 5xx, a time-out, a lost connection and an answer that cannot
be read may be tried again; every other status is final (issue 2). ``Retry-After`` is respected, up
to an hour. Redirects are not followed: a webhook's body must not go where nobody configured it.
"""

from __future__ import annotations

import asyncio
import base64
import logging
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, timedelta
from email.utils import parsedate_to_datetime
from typing import Any, Literal, TypeVar
from urllib.parse import quote, unquote

import httpx
import msgspec

from homeroom import outgoing
from homeroom.clock import Clock, to_datetime
from homeroom.errors import HomeroomError
from homeroom.jobs.outcome import Fail, Retry

TIMEOUT = timedelta(seconds=10)
WEBHOOK_TIMEOUT = timedelta(seconds=15)
MAX_ANSWER_BYTES = 1024 * 1024
MAX_RETRY_AFTER = timedelta(hours=1)
_EXCERPT = 200
_RETRIED = frozenset({408, 425, 429})
_WORD = r"[^\s@\"'<>()\[\]{},;:=]"
# Looks at a word once, and not again from each of its letters.
_ADDRESS = re.compile(rf"(?<!{_WORD}){_WORD}++@{_WORD}+")
_KEY = re.compile(r"(?i)\b(?:(?:bearer|basic)\s+\S+|whsec_\S+)")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\s]+")

Shape = TypeVar("Shape")
What = Literal["refused", "timed out", "lost", "unreachable", "unreadable", "misconfigured"]
"""How a call failed. ``lost``: the connection, after something was sent."""


class PartnerError(HomeroomError):
    """A partner system could not do what it was asked."""

    status = 502
    code = "partner_failed"

    def __init__(
        self,
        message: str,
        *,
        what: What,
        answered: int | None = None,
        again: bool = True,
        after: timedelta | None = None,
    ) -> None:
        """Take what happened; ``answered`` is the partner's status, None where it gave none."""
        super().__init__(
            message, retry_after_seconds=None if after is None else after.total_seconds()
        )
        self.what = what
        self.answered = answered
        self.again = again
        self.after = after

    @property
    def unknown(self) -> bool:
        """Say whether the partner may have done the work although its answer went wrong."""
        if self.what == "refused":
            return self.answered is not None and self.answered >= 500
        return self.what in {"timed out", "lost", "unreadable"}

    def outcome(self) -> Retry | Fail:
        """Return what a job should end with."""
        return Retry(self.message, self.after) if self.again else Fail(self.message)


@dataclass(frozen=True, slots=True)
class Answer:
    """What a partner answered with a status that was expected."""

    partner: str
    status: int
    body: bytes

    def read(self, shape: type[Shape]) -> Shape:
        """Return the body as a type; raise ``PartnerError`` (try again) if it is not one."""
        try:
            return msgspec.json.decode(self.body, type=shape)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            # msgspec names the place, never the value
            reason = scrubbed(str(error))
            raise PartnerError(
                f"{self.partner} answered {self.status} with something unreadable: {reason}",
                what="unreadable",
            ) from None


def open_client() -> httpx.AsyncClient:
    """Return the one client that all partners share; the caller closes it.

    httpx writes whole URLs to its log, which may hold an e-mail address: it is kept quiet.
    Proxies and ``.netrc`` of the environment are not used: every setting is one of Homeroom's.
    """
    for name in ("httpx", "httpcore"):
        logging.getLogger(name).setLevel(logging.WARNING)
    return outgoing.open_client(
        headers={"accept-encoding": "identity", "user-agent": "homeroom"},
    )


def basic(user: str, password: str = "") -> str:
    """Return the Authorization header of Basic authentication."""
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def bearer(token: str | None) -> str | None:
    """Return the Authorization header of a bearer token, or None without one."""
    return None if token is None else f"Bearer {token}"


class Partner:
    """One partner system: its name in messages, its URL and its key."""

    def __init__(
        self,
        client: httpx.AsyncClient,
        name: str,
        url: str,
        *,
        authorization: str | None = None,
        timeout: timedelta = TIMEOUT,
        secrets: Collection[str] = (),
    ) -> None:
        """Take the shared client; ``timeout`` is for a whole call, from first to last byte.

        ``secrets`` never get into a message, beside what ``authorization`` holds.
        """
        self.name = name
        self._client = client
        self._url = url.rstrip("/")
        self._authorization = authorization
        self._seconds = timeout.total_seconds()
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
    ) -> Answer:
        """Send one request and return a 2xx answer, or one with a status of ``expect``.

        ``path`` is the parts below the URL, each escaped here. Raises ``PartnerError``.
        """
        url = "/".join((self._url, *(_escaped(part) for part in path)))
        sent = {"accept": "application/json", **(headers or {})}
        if content is not None:
            sent.setdefault("content-type", "application/json")
        if self._authorization is not None:
            sent["authorization"] = self._authorization
        try:
            async with asyncio.timeout(self._seconds):
                request = self._client.build_request(
                    method, url, params=query, content=content, headers=sent, timeout=self._seconds
                )
                response = await self._client.send(request, stream=True)
                try:
                    body = await self._read(response)
                finally:
                    await response.aclose()
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout) as error:
            reason = self.clean(str(error)) or "no connection in time"
            message = f"{self.name} cannot be reached: {reason}"
            raise PartnerError(message, what="unreachable") from None
        except (TimeoutError, httpx.TimeoutException):
            message = f"{self.name} did not answer within {self._seconds:g} s"
            raise PartnerError(message, what="timed out") from None
        except (httpx.TransportError, httpx.StreamError) as error:
            reason = self.clean(str(error)) or type(error).__name__
            message = f"{self.name} broke the connection off: {reason}"
            raise PartnerError(message, what="lost") from None
        except (httpx.InvalidURL, UnicodeError):
            message = f"{self.name} has a URL that cannot be used"
            raise PartnerError(message, what="misconfigured", again=False) from None
        if response.status_code // 100 == 2 or response.status_code in expect:
            return Answer(self.name, response.status_code, body)
        raise self._refused(response, body)

    def clean(self, text: str) -> str:
        """Return text for a message: short, in one line, without secrets or e-mail addresses."""
        for secret in self._secrets:
            text = text.replace(secret, "[hidden]")
        return scrubbed(text)

    async def _read(self, response: httpx.Response) -> bytes:
        body = bytearray()
        if response.headers.get("content-encoding", "identity").lower() != "identity":
            raise PartnerError(
                f"{self.name} answered {response.status_code} compressed though not asked to",
                what="unreadable",
            )
        async for chunk in response.aiter_raw():
            body += chunk
            if len(body) > MAX_ANSWER_BYTES:
                raise PartnerError(
                    f"{self.name} answered {response.status_code} with more than"
                    f" {MAX_ANSWER_BYTES} bytes",
                    what="unreadable",
                )
        return bytes(body)

    def _refused(self, response: httpx.Response, body: bytes) -> PartnerError:
        status = response.status_code
        excerpt = self.clean(body[: 8 * _EXCERPT].decode("utf-8", "replace"))
        message = f"{self.name} answered {status}" + (f": {excerpt}" if excerpt else "")
        if status // 100 == 3:
            message = f"{self.name} answered {status}, a redirect, which is not followed"
        again = status in _RETRIED or status >= 500
        after = _retry_after(response.headers.get("retry-after")) if again else None
        return PartnerError(message, what="refused", answered=status, again=again, after=after)


def scrubbed(text: str) -> str:
    """Return text in one line of bounded length, without e-mail addresses or what looks a key."""
    text = text[: 8 * _EXCERPT]  # what follows need not be looked at: little of it is shown
    text = (unquote(text) if "%40" in text else text).replace("\\u0040", "@")
    text = _KEY.sub("[hidden]", _CONTROL.sub(" ", text))
    text = _ADDRESS.sub("[address]", text).strip()
    return text if len(text) <= _EXCERPT else text[:_EXCERPT] + "…"


def _escaped(part: str) -> str:
    """Escape one part of a path; ``.`` and ``..`` too, which would otherwise lead elsewhere."""
    return part.replace(".", "%2E") if part in {".", ".."} else quote(part, safe="")


def _retry_after(value: str | None) -> timedelta | None:
    """Read ``Retry-After`` (RFC 9110, 10.2.3): seconds or a date; None where it says nothing.

    Zero, or a date that has passed, leaves the wait to the job's own backoff.
    """
    if value is None:
        return None
    text = value.strip()
    if re.fullmatch(r"[0-9]{1,12}", text):
        wait = timedelta(seconds=int(text))
    else:
        try:
            moment = parsedate_to_datetime(text)
        except (TypeError, ValueError):
            return None
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        # the partner's date is in real time, which Homeroom's own clock need not show
        wait = moment - to_datetime(Clock().now())
    return min(wait, MAX_RETRY_AFTER) if wait > timedelta() else None


def body_of(message: Any) -> bytes:
    """Return a message as the JSON bytes that are sent."""
    return msgspec.json.encode(message)
