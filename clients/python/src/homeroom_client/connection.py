"""What both clients need to reach a server: address, token, and httpx in and out."""

from __future__ import annotations

from typing import Any

import httpx

from homeroom_client.errors import HomeroomError
from homeroom_client.operations import Answer, Request

TIMEOUT_SECONDS = 15.0
RETRY_SECONDS = 60.0


def checked_url(url: str) -> httpx.URL:
    """Return the URL of a server; raises ``ValueError`` for one that names none."""
    parsed = httpx.URL(url.rstrip("/"))
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise ValueError("url must be that of a server, such as https://homeroom.example.org")
    if parsed.userinfo or parsed.query or parsed.fragment:
        raise ValueError("url must have no password, query or fragment; the token is apart")
    return parsed


def headers(token: str, request: Request) -> dict[str, str]:
    """Return the headers of a request; raises without showing the token where it can't be one."""
    if not token or not token.isascii() or not token.isprintable() or " " in token:
        raise HomeroomError("The token is empty or has characters that no API key or JWT has.")
    found = {"Authorization": f"Bearer {token}", "Accept": "application/json"}
    if request.body is not None:
        found["Content-Type"] = "application/json"
    return found


def arguments(url: httpx.URL, token: str, request: Request, timeout: float) -> dict[str, Any]:
    """Return the arguments of ``httpx``'s ``request``. Redirects would take the token along."""
    return {
        "method": request.method,
        "url": f"{url}{request.path}",
        "params": request.query or None,
        "content": request.body,
        "headers": headers(token, request),
        "timeout": timeout,
        "follow_redirects": False,
    }


def answer_of(response: httpx.Response) -> Answer:
    """Return the answer in a response."""
    return Answer(response.status_code, response.headers.get("Retry-After"), response.content)


def answer_without_response(error: httpx.RequestError) -> Answer:
    """Return the answer that stands for a network that failed; its text names the fault."""
    if isinstance(error, httpx.LocalProtocolError | httpx.UnsupportedProtocol):
        raise error  # the request itself can't be sent, now or later
    return Answer(0, None, f"{type(error).__name__}: {error}".encode())
