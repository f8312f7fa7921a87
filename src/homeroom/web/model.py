"""Base classes and field types of request and response bodies (camelCase JSON)."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, datetime, time
from functools import cache
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from fastapi import Header, Path, Query
from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    PlainSerializer,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
)
from pydantic.alias_generators import to_camel

from homeroom.instant import to_rfc3339
from homeroom.plain_text import ID_RULE, LINE_RULE, is_external_id, is_line

MAX_LINE_CHARACTERS = 200


def _check_external_id(text: str) -> str:
    if not is_external_id(text):
        raise ValueError(ID_RULE)
    return text


ExternalId = Annotated[str, AfterValidator(_check_external_id)]
"""An id that the caller assigned: user, course, chapter, event."""


def _check_single_line(text: str) -> str:
    line = text.strip()
    if len(line) > MAX_LINE_CHARACTERS or not is_line(line):
        raise ValueError(f"must be {LINE_RULE}, of at most {MAX_LINE_CHARACTERS} characters")
    return line


SingleLine = Annotated[str, AfterValidator(_check_single_line)]
"""A name or a title: one line, stripped. It may become the subject of a mail."""

IfMatch = Annotated[
    str | None,
    Header(
        alias="If-Match",
        max_length=1_000,
        description="The ETag of a read: the request is refused with 412 if the record has changed"
        " since.",
    ),
]
PathId = Annotated[ExternalId, Path()]
QueryId = Annotated[ExternalId, Query()]

Rfc3339Instant = Annotated[
    int,
    PlainSerializer(to_rfc3339, return_type=str),
    WithJsonSchema({"type": "string", "format": "date-time"}, mode="serialization"),
]
"""Microseconds UTC inside, RFC 3339 text in JSON (responses only)."""


def _refuse_number_as_time(value: Any) -> Any:
    """Refuse ``0.5``, which pydantic reads as half a second after 1970."""
    if isinstance(value, str):
        try:
            float(value)
        except ValueError:
            return value
    elif not isinstance(value, int | float):
        return value
    raise ValueError("must be an RFC 3339 time, such as 2026-11-22T09:00:00Z")


Rfc3339Time = Annotated[AwareDatetime, BeforeValidator(_refuse_number_as_time)]
"""A time in a request, with its zone; numbers are refused."""

_Kinds = frozenset[Any]
_NUMBERS: _Kinds = frozenset({int, float})
_TIMES: _Kinds = frozenset({datetime, date, time})


class RequestModel(BaseModel):
    """A request body: camelCase keys; unknown ones are rejected.

    A value of another JSON type than the field's is rejected too, where pydantic would read
    ``false`` as the number 0, ``"5"`` as 5, ``1`` as true and ``0`` as a day in 1970.
    """

    model_config = ConfigDict(
        alias_generator=to_camel,
        populate_by_name=True,
        extra="forbid",
        allow_inf_nan=False,
        use_attribute_docstrings=True,
    )

    @field_validator("*", mode="before")
    @classmethod
    def _check_json_type(cls, value: Any, info: ValidationInfo) -> Any:
        """Raise ValueError for a value that only a conversion would make fit."""
        kinds, kind = field_kinds(cls, info.field_name or ""), type(value)
        if kind in kinds or (kind in _NUMBERS and kinds & _NUMBERS):
            return value
        if kind in {bool, str} and kinds & _NUMBERS and not kinds & _TIMES:
            raise ValueError("must be a number")
        if kind in {int, float, str} and bool in kinds:
            raise ValueError("must be true or false")
        return _refuse_number_as_time(value) if kinds & _TIMES else value


@cache
def field_kinds(model: type[BaseModel], field: str) -> _Kinds:
    """Return the types that a field accepts, those within lists and objects left out."""
    return frozenset(_alternatives(model.model_fields[field].annotation))


def _alternatives(annotation: Any) -> Iterator[Any]:
    origin, parts = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        yield from _alternatives(parts[0])
    elif origin in {Union, UnionType}:
        for part in parts:
            yield from _alternatives(part)
    else:
        yield origin or annotation


class ResponseModel(BaseModel):
    """A response body: camelCase keys."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        populate_by_name=True,
        from_attributes=True,
        use_attribute_docstrings=True,
    )


JsonObject = dict[str, Any]
