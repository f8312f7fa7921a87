"""The base of all request and response bodies: camelCase at the edge, nothing unknown let in."""

from __future__ import annotations

import re
from typing import Annotated, Any

from fastapi import Path, Query
from pydantic import AfterValidator, BaseModel, ConfigDict, PlainSerializer
from pydantic.alias_generators import to_camel

from homeroom.clock import to_rfc3339
from homeroom.db.id import is_outside_id

MAX_LINE = 200
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


def _outside_id(text: str) -> str:
    if not is_outside_id(text):
        raise ValueError("an id has 1 to 128 characters, none of them a control character")
    return text


OutsideId = Annotated[str, AfterValidator(_outside_id)]
"""An id that somebody else made: user, course, chapter, event."""


def _line(text: str) -> str:
    line = text.strip()
    if not line or len(line) > MAX_LINE or _UNPRINTABLE.search(line):
        raise ValueError(f"must be 1 to {MAX_LINE} printable characters, not all of them spaces")
    return line


Line = Annotated[str, AfterValidator(_line)]
"""A name or a title: one line, without spaces around it. It may be the subject of a mail."""

PathId = Annotated[OutsideId, Path()]
QueryId = Annotated[OutsideId, Query()]

Instant = Annotated[int, PlainSerializer(to_rfc3339, return_type=str)]
"""Microseconds UTC inside, RFC 3339 text at the edge (responses only)."""


class Body(BaseModel):
    """A request body: camelCase keys, strict about unknown ones."""

    model_config = ConfigDict(
        alias_generator=to_camel, populate_by_name=True, extra="forbid", allow_inf_nan=False
    )


class View(BaseModel):
    """A response body: camelCase keys."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, from_attributes=True)


Json = dict[str, Any]
