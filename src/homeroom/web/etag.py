"""ETags of responses, and 304 for a current one (RFC 9110, section 13)."""

from __future__ import annotations

import hashlib

from fastapi import Request
from fastapi.responses import Response
from pydantic import BaseModel

from homeroom.errors import PreconditionFailed


def entity_tag(body: bytes, *, weak: bool = False) -> str:
    """Return the entity tag of a body: equal bytes have equal tags."""
    tag = f'"{hashlib.blake2b(body, digest_size=12).hexdigest()}"'
    return f"W/{tag}" if weak else tag


def etag_matches(if_none_match: str | None, tag: str) -> bool:
    """Return whether ``If-None-Match`` names a tag, compared weakly."""
    if if_none_match is None:
        return False
    if if_none_match.strip() == "*":
        return True
    expected = tag.removeprefix("W/")
    return any(
        candidate.strip().removeprefix("W/") == expected for candidate in if_none_match.split(",")
    )


def check_if_match(if_match: str | None, current: bytes | None) -> None:
    """Raise ``PreconditionFailed`` unless ``If-Match`` names the record as it is.

    ``current`` is the body that a read would return, None for a record that does not exist. Call it
    in the transaction that writes, so that of two editors the second is refused.
    """
    if if_match is None:
        return
    tags = {each.strip() for each in if_match.split(",")}
    if current is None or not ("*" in tags or entity_tag(current) in tags):
        raise PreconditionFailed(
            hint="Read the record again, apply your change to it, and send its new ETag."
        )


def json_response_with_etag(request: Request, content: BaseModel | bytes) -> Response:
    """Return JSON with its ETag, or an empty 304.

    The caller may cache the response and has to revalidate it; shared caches must not store it.
    """
    body = (
        content
        if isinstance(content, bytes)
        else content.model_dump_json(by_alias=True).encode("utf-8")
    )
    tag = entity_tag(body)
    headers = {"ETag": tag, "Cache-Control": "private, no-cache", "Vary": "Authorization, Cookie"}
    if etag_matches(request.headers.get("if-none-match"), tag):
        return Response(status_code=304, headers=headers)
    return Response(body, headers=headers, media_type="application/json")
