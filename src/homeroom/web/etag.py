"""Answer a read with an ETag, or with 304 to a caller that has it already (RFC 9110, 13)."""

from __future__ import annotations

import hashlib

from fastapi import Request
from fastapi.responses import Response
from pydantic import BaseModel


def etag(body: bytes, *, weak: bool = False) -> str:
    """Return the entity tag of a body: equal bytes have equal tags."""
    tag = f'"{hashlib.blake2b(body, digest_size=12).hexdigest()}"'
    return f"W/{tag}" if weak else tag


def matches(if_none_match: str | None, tag: str) -> bool:
    """Say whether an ``If-None-Match`` header names a tag; compared weakly, as the RFC says."""
    if if_none_match is None:
        return False
    if if_none_match.strip() == "*":
        return True
    wanted = tag.removeprefix("W/")
    return any(
        candidate.strip().removeprefix("W/") == wanted for candidate in if_none_match.split(",")
    )


def answer(request: Request, content: BaseModel | bytes) -> Response:
    """Return the JSON of a view with its ETag, or an empty 304.

    The caller may keep the answer but has to ask again; shared caches may not keep it.
    """
    body = (
        content
        if isinstance(content, bytes)
        else content.model_dump_json(by_alias=True).encode("utf-8")
    )
    tag = etag(body)
    headers = {"ETag": tag, "Cache-Control": "private, no-cache", "Vary": "Authorization, Cookie"}
    if matches(request.headers.get("if-none-match"), tag):
        return Response(status_code=304, headers=headers)
    return Response(body, headers=headers, media_type="application/json")
