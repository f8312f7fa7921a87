"""Cursor paging of lists: ``{"items": [...], "nextCursor": null}``."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Generic, TypeVar

import msgspec
from fastapi import Depends, Query

from homeroom.errors import Invalid
from homeroom.web.model import ResponseModel

Item = TypeVar("Item")
MAX_PAGE_SIZE = 1_000


@dataclass(frozen=True, slots=True)
class Paging:
    """The page size and the key of the last item before the page."""

    limit: int
    after: tuple[Any, ...] | None

    def key(self, *types: type) -> tuple[Any, ...] | None:
        """Return the key before the page, its types checked; None for the first page."""
        if self.after is None:
            return None
        if len(self.after) != len(types) or not all(map(_is_key_part, self.after, types)):
            raise Invalid("The cursor belongs to another list; start again without it.")
        return self.after


def _is_key_part(part: Any, kind: type) -> bool:
    """Return whether a value fits a key column: no bool, at most 64 bits."""
    if isinstance(part, int):
        return kind is int and type(part) is int and -(2**63) <= part < 2**63
    return isinstance(part, kind)


def _parse_paging(
    limit: Annotated[int, Query(ge=1, le=MAX_PAGE_SIZE)] = 100,
    cursor: Annotated[str | None, Query(max_length=2_000)] = None,
) -> Paging:
    if cursor is None:
        return Paging(limit, None)
    try:
        parts = msgspec.json.decode(base64.urlsafe_b64decode(cursor.encode()), type=list[Any])
    except (binascii.Error, ValueError, msgspec.MsgspecError) as error:
        raise Invalid("The cursor cannot be read; start again without it.") from error
    return Paging(limit, tuple(parts))


PagingQuery = Annotated[Paging, Depends(_parse_paging)]


class Page(ResponseModel, Generic[Item]):
    """One page of a list."""

    items: list[Item]
    next_cursor: str | None = None


def cut_page(
    rows: Sequence[Any], paging: Paging, key: Callable[[Any], Sequence[Any]]
) -> tuple[list[Any], str | None]:
    """Cut ``limit + 1`` fetched rows to a page; return it and the next cursor."""
    if len(rows) <= paging.limit:
        return list(rows), None
    items = list(rows[: paging.limit])
    cursor = base64.urlsafe_b64encode(msgspec.json.encode(list(key(items[-1])))).decode()
    return items, cursor
