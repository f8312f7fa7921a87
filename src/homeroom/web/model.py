"""The base of all request and response bodies: camelCase at the edge, nothing unknown let in."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Path, Query
from pydantic import AfterValidator, BaseModel, ConfigDict, PlainSerializer
from pydantic.alias_generators import to_camel

from homeroom.clock import to_rfc3339
from homeroom.db.id import is_outside_id


def _outside_id(text: str) -> str:
    if not is_outside_id(text):
        raise ValueError("an id has 1 to 128 characters, none of them a control character")
    return text


OutsideId = Annotated[str, AfterValidator(_outside_id)]
"""An id that somebody else made: user, course, chapter, event."""

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
